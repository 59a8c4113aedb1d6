"""The catalogue of everything that can be chosen about learning and asking, as plain typed data.

Forms, the API, the command line, the docs and the worker all read this one catalogue, so a name or a parameter is
spelled, bounded and explained once. This module knows no torch and no database: what a choice *does* lives in
``worker.learning``, where a registry per group carries exactly the names listed here (a contract test compares them).
"""

from app.recipes.acquisitions import ACQUISITIONS
from app.recipes.choices import Choice, Group, Parameter, ParameterKind, Value
from app.recipes.fittings import FITTINGS
from app.recipes.networks import NETWORKS
from app.recipes.posteriors import POSTERIORS
from app.recipes.pseudo_labelers import PSEUDO_LABELERS
from app.recipes.reading import GROUPS, SIZES, Pick, Recipe, parse_pick, parse_recipe, posterior_samples
from app.recipes.selections import SELECTIONS

__all__ = [
    "ACQUISITIONS",
    "FITTINGS",
    "GROUPS",
    "NETWORKS",
    "POSTERIORS",
    "PSEUDO_LABELERS",
    "SELECTIONS",
    "SIZES",
    "Choice",
    "Group",
    "Parameter",
    "ParameterKind",
    "Pick",
    "Recipe",
    "Value",
    "parse_pick",
    "parse_recipe",
    "posterior_samples",
]
