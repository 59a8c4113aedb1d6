"""From options of a command to a recipe: the names are the catalogue's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.errors import RecipeError
from app.recipes import GROUPS, Recipe, parse_recipe


def given_recipe(
    *,
    network: str | None = None,
    posterior: str | None = None,
    acquisition: str | None = None,
    selection: str | None = None,
    batch_size: int | None = None,
    seed_set: int | None = None,
    seed: int | None = None,
    assignments: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what was given of a recipe, for ``parse_recipe`` to check and to fill up with defaults.

    Args:
        assignments: ``group.parameter=value``, ``group=name`` or ``size=value``, such as ``fitting.epochs=30``; the
            last one of the same name holds.
    Raises:
        RecipeError: an assignment is not of this form.
    """
    picks = {"network": network, "posterior": posterior, "acquisition": acquisition, "selection": selection}
    sizes = {"batch_size": batch_size, "seed_set": seed_set, "seed": seed}
    given: dict[str, Any] = {group: {"name": name} for group, name in picks.items() if name is not None}
    given |= {size: number for size, number in sizes.items() if number is not None}
    for assignment in assignments:
        _assign(given, assignment)
    return given


def changed_recipe(before: Mapping[str, Any], given: Mapping[str, Any]) -> Recipe:
    """Return a stored recipe with what was given in its place; a group's parameters stay while its name does.

    Raises:
        RecipeError: what was given is unknown or out of bounds.
    """
    merged = dict(before)
    for name, value in given.items():
        stored = before.get(name)
        if isinstance(value, Mapping) and isinstance(stored, Mapping):
            keeps_name = value.get("name", stored.get("name")) == stored.get("name")
            value = {**stored, **value} if keeps_name else value  # noqa: PLW2901 - the same value, filled up
        merged[name] = value
    return parse_recipe(merged)


def _assign(given: dict[str, Any], assignment: str) -> None:
    where, separator, value = (part.strip() for part in assignment.partition("="))
    group, dot, parameter = where.partition(".")
    if not separator or not where or (dot and not parameter):
        raise RecipeError(
            f"--set {assignment}", "it is no assignment", "write group.parameter=value, such as fitting.epochs=30"
        )
    if not dot and group not in {known.name for known in GROUPS}:
        given[group] = value
        return
    pick = given.setdefault(group, {})
    if not isinstance(pick, dict):
        raise RecipeError(f"--set {assignment}", f"{group} has no parameters", f"write {group}=value")
    pick[parameter or "name"] = value
