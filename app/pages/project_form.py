"""The new-project form: what may be typed, read against the catalogue, with every message beside its field.

A field of a recipe is named by its place in the catalogue: ``network`` is the choice, ``network.al_cnn.dropout`` one of
its parameters, ``batch_size`` a size. Only the parameters of what was chosen are read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.errors import QuerentError, RecipeError
from app.pages.templating import number
from app.recipes import GROUPS, SIZES, Group, ParameterKind, Recipe, parse_recipe
from app.services.importing import SourceKind
from app.services.projects import LARGEST_BUDGET, NewProject

LONGEST_NAME = 120
LONGEST_DESCRIPTION = 2000
MOST_CLASSES = 1000
MOST_IMAGES = 100_000_000


@dataclass(frozen=True)
class SourceChoice:
    """A source of images that the form offers."""

    kind: SourceKind
    title: str
    explanation: str
    has_folder: bool = False


SOURCES = (
    SourceChoice(SourceKind.ZIP, "Upload a zip", "Your own images: one folder a class, or no folders and no labels."),
    SourceChoice(
        SourceKind.DIGITS, "Handwritten digits", "1\u202f797 grey images of 8 × 8 pixels, bundled with the worker."
    ),
    SourceChoice(SourceKind.MNIST, "MNIST", "70\u202f000 grey digits of 28 × 28 pixels.", True),
    SourceChoice(SourceKind.FASHION_MNIST, "FashionMNIST", "70\u202f000 grey garments of 28 × 28 pixels.", True),
    SourceChoice(SourceKind.CIFAR10, "CIFAR-10", "60\u202f000 colour photographs of 32 × 32 pixels.", True),
)
DEFAULT_BUDGET = 300
EVERYBODY = "all"


@dataclass(frozen=True)
class ReadForm:
    """What a form says, if it says it well; ``errors`` maps field names to messages."""

    project: NewProject | None
    kind: SourceKind
    path: str | None
    pool: int | None
    test: int | None
    labelled: bool
    start: bool
    errors: dict[str, str] = field(default_factory=dict)


def empty_form() -> dict[str, str]:
    """Return the fields as the form first shows them: the catalogue's defaults."""
    typed = {
        "name": "",
        "description": "",
        "source": SourceKind.ZIP.value,
        "labelled": "on",
        "classes": "",
        "pool": "",
        "test": "",
        "budget": str(DEFAULT_BUDGET),
        "overlap": "1",
        "open_to": EVERYBODY,
        "members": "",
        "groups": "",
        "start": "on",
    }
    typed |= {f"path.{source.kind.value}": "" for source in SOURCES if source.has_folder}
    for group in GROUPS:
        typed[group.name] = group.choices[0].name
        for choice in group.choices:
            for parameter in choice.parameters:
                is_switch = parameter.kind is ParameterKind.SWITCH
                value = ("on" if parameter.default else "") if is_switch else str(parameter.default)
                typed[f"{group.name}.{choice.name}.{parameter.name}"] = value
    return typed | {size.name: str(size.default) for size in SIZES}


def typed_form(posted: Mapping[str, object]) -> dict[str, str]:
    """Return the fields as they were typed; a switch that was not sent is off, anything unknown is dropped."""
    typed = {}
    for name in empty_form():
        value = posted.get(name, "")
        typed[name] = value.strip() if isinstance(value, str) else ""
    return typed


def read_form(typed: Mapping[str, str]) -> ReadForm:
    """Read what was typed and collect what is wrong with it."""
    errors: dict[str, str] = {}
    kind = _source(typed["source"], errors)
    recipe = _recipe(typed, errors)
    budget = _whole(typed, "budget", 1, LARGEST_BUDGET, errors)
    overlap = _whole(typed, "overlap", 1, 100, errors)
    pool = _whole(typed, "pool", 1, MOST_IMAGES, errors) if typed["pool"] else None
    test = _whole(typed, "test", 0, MOST_IMAGES, errors) if typed["test"] else None
    class_names = _class_names(typed["classes"], errors)
    if not 1 <= len(typed["name"]) <= LONGEST_NAME:
        errors["name"] = f"Give it a name of 1 to {LONGEST_NAME} characters."
    if len(typed["description"]) > LONGEST_DESCRIPTION:
        errors["description"] = f"Keep it under {LONGEST_DESCRIPTION} characters."
    if kind is SourceKind.ZIP and not typed["labelled"] and len(class_names) < 2 and "classes" not in errors:
        errors["classes"] = "Name at least two classes: the images bring none."
    project = None
    if recipe is not None and budget is not None and overlap is not None and not errors:
        project = NewProject(
            typed["name"],
            recipe,
            budget,
            typed["description"],
            overlap,
            class_names,
            open_to_all=typed["open_to"] == EVERYBODY,
            members=tuple(read_names(typed["members"])),
            groups=tuple(read_names(typed["groups"])),
        )
    path = typed.get(f"path.{kind.value}") or None
    return ReadForm(project, kind, path, pool, test, bool(typed["labelled"]), bool(typed["start"]), errors)


def read_names(text: str) -> list[str]:
    """Return what stands on the lines of a field, or between its commas."""
    return [name.strip() for name in re.split(r"[\n,]", text) if name.strip()]


def message_of(error: QuerentError) -> str:
    """Return an error as it stands beside its field."""
    return f"{error.reason[:1].upper()}{error.reason[1:]}: {error.remedy}."


def _recipe(typed: Mapping[str, str], errors: dict[str, str]) -> Recipe | None:
    before = len(errors)
    given: dict[str, Any] = {group.name: _pick(group, typed, errors) for group in GROUPS}
    for size in SIZES:
        try:
            given[size.name] = size.parse(typed[size.name], size.name)
        except RecipeError as error:
            errors[size.name] = message_of(error)
    if len(errors) > before:
        return None
    try:
        return parse_recipe(given)
    except RecipeError as error:  # choices that cannot work together
        group, _, parameter = error.subject.partition(".")
        errors[f"{group}.{given[group]['name']}.{parameter}" if parameter else group] = message_of(error)
        return None


def _pick(group: Group, typed: Mapping[str, str], errors: dict[str, str]) -> dict[str, Any]:
    try:
        choice = group.choice(typed[group.name])
    except RecipeError as error:
        errors[group.name] = message_of(error)
        return {}
    pick: dict[str, Any] = {"name": choice.name}
    for parameter in choice.parameters:
        field_name = f"{group.name}.{choice.name}.{parameter.name}"
        try:
            pick[parameter.name] = parameter.parse(typed[field_name], field_name)
        except RecipeError as error:
            errors[field_name] = message_of(error)
    return pick


def _source(given: str, errors: dict[str, str]) -> SourceKind:
    offered = {source.kind.value: source.kind for source in SOURCES}
    if given not in offered:
        errors["source"] = f"There is no source called {given!r}: use one of: {', '.join(offered)}."
    return offered.get(given, SourceKind.ZIP)


def _class_names(text: str, errors: dict[str, str]) -> tuple[str, ...]:
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(names) <= MOST_CLASSES else []
    if len(names) > MOST_CLASSES:
        errors["classes"] = f"These are {len(names)} classes: name at most {MOST_CLASSES}."
    elif repeated:
        errors["classes"] = f"Named twice: {', '.join(repeated)}. Give every class its own name."
    elif any(len(name) > LONGEST_NAME for name in names):
        errors["classes"] = f"A class has a name of more than {LONGEST_NAME} characters: shorten it."
    return names


def _whole(typed: Mapping[str, str], name: str, low: int, high: int, errors: dict[str, str]) -> int | None:
    text = typed[name]
    value = int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else None
    if value is None or not low <= value <= high:
        errors[name] = f"Use a whole number from {number(low)} to {number(high)}."
        return None
    return value
