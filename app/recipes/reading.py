"""Recipes: one choice of every group and all sizes, read from JSON, forms and options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from app.errors import RecipeError
from app.recipes.acquisitions import ACQUISITIONS
from app.recipes.choices import Group, Parameter, Value, integer, listed, number, one_of
from app.recipes.fittings import FITTINGS
from app.recipes.networks import NETWORKS
from app.recipes.posteriors import POSTERIORS
from app.recipes.pseudo_labelers import PSEUDO_LABELERS, check_held_out, check_pair
from app.recipes.selections import SELECTIONS

GROUPS: tuple[Group, ...] = (NETWORKS, POSTERIORS, ACQUISITIONS, SELECTIONS, FITTINGS, PSEUDO_LABELERS)

SIZES: tuple[Parameter, ...] = (
    integer("batch_size", 20, 1, 10_000, "Images asked about in one round."),
    integer("seed_set", 20, 1, 10_000, "First images, asked about before there is a network."),
    integer(
        "image_side",
        0,
        0,
        512,
        "Pixels per side at which the network sees the images, 4 or more; 0 follows them: 32 if half of them have as "
        "many on their shorter side, else 16. Photos gain by 64.",
    ),
    one_of(
        "cold_start",
        ("random", "clusters"),
        "First images: drawn, or the most typical of each cluster of alike images.",
    ),
    number(
        "random_share", 0.1, 0.0, 1.0, "Share of the queries drawn uniformly, as a fair sample; 0 for published runs."
    ),
    number(
        "duplicate_similarity",
        0.999,
        0.9,
        1.0,
        "Images at least this alike (cosine of features) enter a batch once; 1 lets all in.",
    ),
    integer("seed", 0, 0, 2**31 - 1, "Start of every random draw: same seed, same data, same batches."),
)

SMALL_SIDE, LARGE_SIDE = 16, 32  # at which images are seen when the side follows them
LEAST_SIDE = 4


@dataclass(frozen=True)
class Pick:
    """One choice of a group with all its parameters filled in."""

    name: str
    parameters: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", MappingProxyType(dict(self.parameters)))

    def integer(self, name: str) -> int:
        """Return a parameter that the catalogue types as a whole number."""
        return int(self.parameters[name])

    def number(self, name: str) -> float:
        """Return a parameter that the catalogue types as a number."""
        return float(self.parameters[name])

    def switch(self, name: str) -> bool:
        """Return a parameter that the catalogue types as a switch."""
        return bool(self.parameters[name])

    def text(self, name: str) -> str:
        """Return a parameter that the catalogue types as one of several words."""
        return str(self.parameters[name])

    def as_json(self) -> dict[str, Value]:
        """Return the pick as it is stored: its name beside its parameters."""
        return {"name": self.name, **self.parameters}


@dataclass(frozen=True)
class Recipe:
    """All choices of how a project learns and asks."""

    network: Pick
    posterior: Pick
    acquisition: Pick
    selection: Pick
    fitting: Pick
    pseudo_labeler: Pick
    batch_size: int
    seed_set: int
    image_side: int
    cold_start: str
    random_share: float
    duplicate_similarity: float
    seed: int

    def __post_init__(self) -> None:
        if 0 < self.image_side < LEAST_SIDE:
            remedy = f"use {LEAST_SIDE} or more, or 0 to follow the images"
            raise RecipeError("image_side", f"{self.image_side} pixels per side show nothing", remedy)
        samples = posterior_samples(self.posterior)
        for group, pick in ((ACQUISITIONS, self.acquisition), (SELECTIONS, self.selection)):
            least = group.choice(pick.name).least_samples
            if samples < least:
                reason = (
                    f"{pick.name} compares {least} or more posterior samples and {self.posterior.name} has {samples}"
                )
                raise RecipeError(group.name, reason, f"use another {group.name}, or as posterior: {_sampling()}")
        if (self.acquisition.name, self.selection.name) == ("random", "hedge"):
            reason = "hedge chooses by looks and by clusters, so random queries would not be drawn uniformly"
            raise RecipeError("selection", reason, "use selection = top_k, or another acquisition")
        given = self.pseudo_labeler.parameters
        is_baseline = (self.acquisition.name, self.selection.name) == ("random", "top_k")
        draws = self.cold_start == "random" or self.random_share > 0 or is_baseline
        check_held_out(given.get("way"), float(given.get("held_out", 0.0)), draws)
        check_pair(self.pseudo_labeler.name, self.posterior.name, samples, self.fitting.name)

    @property
    def labels_by_itself(self) -> bool:
        """Whether the network labels images too: a pseudo-labeler other than ``none`` was chosen."""
        return self.pseudo_labeler.name != PSEUDO_LABELERS.choices[0].name

    def for_images(self, shorter_side: int) -> Recipe:
        """Return the recipe with the side at which images are seen, where it follows them; else itself.

        Args:
            shorter_side: pixels on the shorter side of the images, the median.
        """
        if self.image_side:
            return self
        return replace(self, image_side=LARGE_SIDE if shorter_side >= LARGE_SIDE else SMALL_SIDE)

    def as_json(self) -> dict[str, Any]:
        """Return the recipe as JSON that ``parse_recipe`` reads back to an equal recipe."""
        picks = {group.name: getattr(self, group.name).as_json() for group in GROUPS}
        return {**picks, **{size.name: getattr(self, size.name) for size in SIZES}}


def posterior_samples(posterior: Pick) -> int:
    """Return S, the samples that a posterior draws: its ``samples`` or ``members``, else the point estimate alone."""
    return int(posterior.parameters.get("samples", posterior.parameters.get("members", 1)))


def parse_recipe(given: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe; whatever is not given takes the catalogue's default.

    An acquisition that is named without a selection is followed as it is, by ``top_k``: who names random queries gets
    random queries.

    Args:
        given: group names mapped to a name or to ``{"name": ..., parameter: value}``, and sizes mapped to numbers.
    Raises:
        RecipeError: an unknown group, name, parameter or value, or choices that cannot work together; the message names
            the one to change and lists what is known.
    """
    given = given or {}
    known = [group.name for group in GROUPS] + [size.name for size in SIZES]
    for name in given:
        if name not in known:
            raise RecipeError(name, "a recipe has no such part", f"use any of: {listed(known)}")
    if given.get(ACQUISITIONS.name) is not None and given.get(SELECTIONS.name) is None:
        given = {**given, SELECTIONS.name: "top_k"}
    parts: dict[str, Any] = {group.name: parse_pick(group, given.get(group.name)) for group in GROUPS}
    for size in SIZES:
        parts[size.name] = size.parse(given.get(size.name, size.default), size.name)
    return Recipe(**parts)


def parse_pick(group: Group, given: object) -> Pick:
    """Read one group's pick from a name, from ``{"name": ..., parameter: value}`` or, for None, the default.

    Raises:
        RecipeError: an unknown name, parameter or value.
    """
    if given is None:
        given = {}
    elif isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, Mapping):
        raise RecipeError(group.name, f"{given!r} is not a choice", 'use a name, or {"name": ..., parameter: value}')
    choice = group.choice(given.get("name", group.choices[0].name))
    known = {parameter.name: parameter for parameter in choice.parameters}
    for name in given:
        if name != "name" and name not in known:
            remedy = f"use any of: {listed(known)}" if known else f"{choice.name} takes no parameters"
            raise RecipeError(f"{group.name}.{name}", f"{choice.name} has no such parameter", remedy)
    values = {
        name: parameter.parse(given.get(name, parameter.default), f"{group.name}.{name}")
        for name, parameter in known.items()
    }
    return Pick(choice.name, values)


def _sampling() -> str:
    """Names of the posteriors of more than one sample."""
    sampling = {"samples", "members"}
    return listed(
        choice.name for choice in POSTERIORS.choices if sampling & {parameter.name for parameter in choice.parameters}
    )
