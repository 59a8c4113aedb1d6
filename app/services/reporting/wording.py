"""Stored recipes and sources in words, for people to read.

A recipe of an earlier release may name what the catalogue no longer has; it is shown as it was stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.errors import RecipeError
from app.recipes import GROUPS, SIZES, Group

SOURCES = {
    "digits": "Handwritten digits (scikit-learn)",
    "mnist": "MNIST",
    "fashionmnist": "FashionMNIST",
    "cifar10": "CIFAR-10",
    "folder": "Folder",
    "zip": "Uploaded archive",
}


@dataclass(frozen=True)
class RecipeLine:
    """One part of a recipe: what it decides, what was chosen, and the parameters that differ from their defaults."""

    title: str
    choice: str
    changed: tuple[str, ...] = ()


def recipe_lines(recipe: Mapping[str, Any] | None) -> tuple[RecipeLine, ...]:
    """Return a stored recipe as lines, in the catalogue's order."""
    if recipe is None:
        return ()
    picks = tuple(_pick_line(group, recipe[group.name]) for group in GROUPS if group.name in recipe)
    sizes = tuple(
        RecipeLine(size.name.replace("_", " ").capitalize(), _size_words(size.name, recipe[size.name]))
        for size in SIZES
        if size.name in recipe
    )
    return picks + sizes


def source_title(source: Mapping[str, Any]) -> str:
    """Return where images came from."""
    kind = str(source.get("kind", ""))
    return SOURCES.get(kind, kind)


def _size_words(name: str, value: Any) -> str:
    return "follows the images" if (name, value) == ("image_side", 0) else str(value)


def _pick_line(group: Group, stored: Any) -> RecipeLine:
    pick = dict(stored) if isinstance(stored, Mapping) else {"name": stored}
    name = pick.pop("name", "")
    try:
        choice = group.choice(name)
    except RecipeError:
        return RecipeLine(group.title, str(name))
    defaults = {parameter.name: parameter.default for parameter in choice.parameters}
    changed = tuple(f"{key.replace('_', ' ')} {value}" for key, value in pick.items() if defaults.get(key) != value)
    return RecipeLine(group.title, choice.title, changed)
