"""What an experiment is, as it stands in a TOML file: data, splits, seed sets, budget, arms, figures to compare with.

Arms hold parts of a recipe with exactly the names and parameters of ``app.recipes``. Whatever a file gets wrong is
told with the file, the key, the reason and the remedy. Running an experiment is for ``worker.benchmark.runner``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import BadInput, NotFound, RecipeError
from app.recipes import SIZES, Recipe, parse_recipe

FOLDER = Path(__file__).parent / "experiments"
# A run sets these from its seed, its seed set and its budget.
_SET_BY_RUNS = {"batch_size": "budget.batch", "seed_set": "seed_set.count", "seed": "--seeds"}
# Pixels on the shorter side of a set's images, the median, for recipes whose image_side follows them.
SHORTER_SIDES = {"digits": 8, "mnist": 28, "fashionmnist": 28, "cifar10": 32, "caltech101": 112}

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]*$")]


class Scale(StrEnum):
    """How much of an experiment is run; what each means stands in its file."""

    QUICK = "quick"
    FULL = "full"


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Data(_Table):
    """Which images: a published set, its training images ``repeats`` times with noise of this spread (of full scale).

    With a ``rare_class``, the pool holds ``rare_share`` of it and otherwise the other classes as they come.
    """

    name: Literal["digits", "mnist", "fashionmnist", "cifar10", "caltech101"]  # the keys of SHORTER_SIDES
    repeats: Annotated[int, Field(ge=1, le=20)] = 1
    noise: Share = 0.0
    rare_class: Annotated[int, Field(ge=0)] | None = None
    rare_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.01


class Splits(_Table):
    """Images in the pool (before they are repeated) and for testing; all there are when not given.

    They are drawn by seed, or the first of the set, as published runs often take them. With ``validation = "test"``
    every fit looks at the test images to decide when to stop, so that their accuracy measures nothing: only for showing
    what was published so, and the report says it first.
    """

    pool: Count | None = None
    test: Count | None = None
    draw: Literal["seed", "first"] = "seed"
    validation: Literal["test"] | None = None


class SeedSet(_Table):
    """The first labels: as many of each class, drawn uniformly, or chosen by the learner without a network."""

    count: Count
    draw: Literal["balanced", "uniform", "cold_start"] = "uniform"


class Budget(_Table):
    """Labels in all, how many a round asks for, and of how many images, drawn anew each round, it chooses them.

    ``extra_rounds`` follow when all labels are given, for arms that label images by themselves.
    """

    labels: Count
    batch: Count
    candidates: Count | None = None
    extra_rounds: Annotated[int, Field(ge=0)] = 0


class Oracle(_Table):
    """How often an answer is wrong."""

    noise: Share = 0.0


class Arm(_Table):
    """One way of learning and asking; ``labels = "all"`` fits once to the whole pool, as an upper bound.

    ``candidates`` takes the place of the budget's for this arm. An arm that is not ``compared`` learns otherwise than
    the baseline, so that its distance from it says nothing about asking; it is shown and not judged.
    ``against`` names an arm that this one is held against beside the baseline, such as the same without pseudo-labels.
    """

    name: Name
    recipe: dict[str, Any] = {}
    labels: Literal["budget", "all"] = "budget"
    candidates: Count | None = None
    compared: bool = True
    against: Name | None = None


class Metric(StrEnum):
    """Figures that others have published."""

    TEST_ACCURACY = "test_accuracy"
    TEST_NLL = "test_nll"
    MEAN_ENTROPY = "mean_entropy"


class Picture(StrEnum):
    """Pictures of the pool that a report shows if it is asked to; what they need is kept at the end of each run."""

    CENTROIDS = "centroids"
    CONFIDENCES = "confidences"


class Published(_Table):
    """A published series: one figure for each number of labels; ``arm`` is ours to hold against it."""

    series: str
    source: str
    arm: Name | None = None
    metric: Annotated[Metric, Field(strict=False)] = Metric.TEST_ACCURACY
    labels: tuple[Count, ...] = Field(strict=False)
    values: tuple[float, ...] = Field(strict=False)


class Experiment(_Table):
    """An experiment at one scale.

    ``recipe`` is shared by all arms and changed by each; ``first_fit`` changes it for the first round alone. ``seeds``
    is how many are run unless told otherwise; ``baseline`` is the arm that the others are held against.
    """

    name: Name
    scale: Annotated[Scale, Field(strict=False)]
    title: str
    description: str
    notes: tuple[str, ...] = Field((), strict=False)
    seeds: Count
    data: Data
    splits: Splits = Splits()
    seed_set: SeedSet
    budget: Budget
    oracle: Oracle = Oracle()
    recipe: dict[str, Any] = {}
    first_fit: dict[str, Any] = {}
    arms: tuple[Arm, ...] = Field(min_length=1, strict=False)
    baseline: Name = "random"
    targets: tuple[Share, ...] = Field((0.9, 0.95, 0.98), strict=False)
    published: tuple[Published, ...] = Field((), strict=False)
    pictures: tuple[Annotated[Picture, Field(strict=False)], ...] = Field((), strict=False)

    def arm(self, name: str) -> Arm:
        """Return the arm of this name."""
        return next(arm for arm in self.arms if arm.name == name)

    def candidates_of(self, name: str) -> int | None:
        """Return of how many images, drawn anew each round, an arm chooses; None for the whole pool."""
        return self.arm(name).candidates or self.budget.candidates

    def recipe_of(self, arm: Arm, seed: int, *, first: bool = False) -> Recipe:
        """Return the recipe of one run of an arm, for its first round or any later one.

        Raises:
            RecipeError: a name or a parameter that the catalogue does not have.
        """
        given = merged(self.recipe, arm.recipe)
        given = merged(given, self.first_fit) if first else given
        sizes = {"batch_size": self.budget.batch, "seed_set": self.seed_set.count, "seed": seed}
        return parse_recipe({**given, **sizes}).for_images(SHORTER_SIDES[self.data.name])

    def labels_by_itself(self, arm: Arm) -> bool:
        """Return whether an arm has a pseudo-labeler, and images that nobody labelled."""
        return arm.labels == "budget" and self.recipe_of(arm, 0).pseudo_labeler.name != "none"

    @property
    def image_side(self) -> int:
        """Pixels per side at which all arms see the images."""
        return self.recipe_of(self.arms[0], 0).image_side

    def conditions(self) -> dict[str, Any]:
        """Return what must not change while runs are added to one folder: everything but words and seeds."""
        words = {"title", "description", "notes", "seeds", "targets", "published", "baseline", "pictures"}
        exclude: dict[str, Any] = dict.fromkeys(words, True) | {"arms": {"__all__": {"compared"}}}
        return self.model_dump(mode="json", exclude=exclude)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Lay tables over one another; a choice of the same name keeps the parameters that are not changed."""
    result = dict(base)
    for key, change in changes.items():
        old = {"name": result[key]} if isinstance(result.get(key), str) and isinstance(change, Mapping) else None
        old = old or result.get(key)
        if isinstance(old, Mapping) and isinstance(change, Mapping):
            is_same = change.get("name", old.get("name")) == old.get("name")
            result[key] = merged(old, change) if is_same else dict(change)
        else:
            result[key] = change
    return result


def known_experiments() -> list[str]:
    """Return the names of the experiments that come with the program, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_experiment(name: str, scale: Scale) -> Experiment:
    """Read one of our experiments by its name, or any TOML file by its path.

    Raises:
        NotFound: neither.
        BadInput: the file is no TOML, or a key in it is unknown, missing or out of bounds.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(known_experiments())
        raise NotFound(f"experiment {name}", "there is none of this name", f"use one of {known}, or a .toml file")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(str(path), f"it is no TOML ({error})", "mend that line") from error
    return _at_scale(table, path, scale)


def _at_scale(table: dict[str, Any], path: Path, scale: Scale) -> Experiment:
    for key in {"name", "scale"} & table.keys():
        raise BadInput(
            f"{path.name}, {key}", "there is no such key", "the file's name is the experiment's; leave it out"
        )
    scales = table.pop("scales", {})
    for name in scales:
        if name not in set(Scale):
            raise BadInput(f"{path.name}, scales.{name}", "there is no such scale", f"use {' and '.join(Scale)}")
    if scale not in scales:
        raise BadInput(f"{path.name}, scales.{scale}", "the file does not say what this scale is", "add this table")
    changes = dict(scales[scale])
    chosen = changes.pop("arms", None)
    table = merged(table, changes)
    if chosen is not None:
        table["arms"] = list(_chosen(table.get("arms", []), chosen, f"{path.name}, scales.{scale}.arms"))
    return parse_experiment({**table, "name": path.stem, "scale": scale}, path.name)


def _chosen(arms: list[dict[str, Any]], names: list[str], where: str) -> Iterator[dict[str, Any]]:
    by_name = {arm.get("name"): arm for arm in arms}
    for name in names:
        if name not in by_name:
            raise BadInput(where, f"there is no arm called {name!r}", f"use any of: {', '.join(map(str, by_name))}")
        yield by_name[name]


def parse_experiment(table: Mapping[str, Any], file: str) -> Experiment:
    """Check an experiment at one scale.

    Raises:
        BadInput: with the file, the key, the reason and the remedy.
    """
    try:
        experiment = Experiment.model_validate(table)
    except ValidationError as error:
        raise _told(error, file) from error
    _check_arms(experiment, file)
    _check_sizes(experiment, file)
    return experiment


def _told(error: ValidationError, file: str) -> BadInput:
    found = error.errors()
    # of a key that is misspelled, the wrong spelling says more than that the right one is missing
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    key = ".".join(str(part) for part in first["loc"])
    parent: Any = Experiment
    for part in first["loc"][:-1]:
        if isinstance(part, str) and hasattr(parent, "model_fields"):
            parent = _table_of(parent.model_fields[part].annotation)
    match first["type"]:
        case "extra_forbidden":
            known = ", ".join(parent.model_fields) if hasattr(parent, "model_fields") else "its own keys"
            return BadInput(f"{file}, {key}", "there is no such key", f"use any of: {known}")
        case "missing":
            return BadInput(f"{file}, {key}", "it is missing", "add it")
        case _:
            reason = f"{first['input']!r} cannot be used"
            return BadInput(f"{file}, {key}", reason, first["msg"].replace("Input should", "it should").rstrip("."))


def _table_of(annotation: Any) -> Any:
    """Return the table within an annotation such as ``tuple[Arm, ...]``."""
    inner = getattr(annotation, "__args__", ())
    return next((one for one in (annotation, *inner) if isinstance(one, type) and issubclass(one, _Table)), None)


def _check_arms(experiment: Experiment, file: str) -> None:
    names = [arm.name for arm in experiment.arms]
    if len(set(names)) != len(names):
        raise BadInput(f"{file}, arms", f"a name stands there twice ({', '.join(names)})", "give each arm its own")
    if experiment.baseline not in names:
        raise BadInput(
            f"{file}, baseline", f"no arm is called {experiment.baseline!r}", f"use one of {', '.join(names)}"
        )
    for series in experiment.published:
        where = f"{file}, published {series.series!r}"
        if series.arm is not None and series.arm not in names:
            raise BadInput(where, f"no arm is called {series.arm!r}", f"use one of {', '.join(names)}")
        if len(series.labels) != len(series.values):
            raise BadInput(
                where, f"{len(series.labels)} labels and {len(series.values)} values", "give as many of both"
            )
    sides = set()
    for arm in experiment.arms:
        if arm.against is not None and arm.against not in names:
            where, reason = f"{file}, arm {arm.name}, against", f"no arm is called {arm.against!r}"
            raise BadInput(where, reason, f"use one of {', '.join(names)}")
        for key, given in (("recipe", experiment.recipe), ("first_fit", experiment.first_fit), (arm.name, arm.recipe)):
            for size in (size.name for size in SIZES if size.name in given and size.name in _SET_BY_RUNS):
                raise BadInput(f"{file}, {key}.{size}", "a run sets it", f"use {_SET_BY_RUNS[size]}")
        try:
            recipes = [experiment.recipe_of(arm, 0, first=first) for first in (False, True)]
        except RecipeError as error:
            raise BadInput(f"{file}, arm {arm.name}, recipe.{error.subject}", error.reason, error.remedy) from error
        sides |= {recipe.image_side for recipe in recipes}
    if len(sides) > 1:
        raise BadInput(f"{file}, arms", f"they see images of different sides {sorted(sides)}", "set it in recipe alone")


def _check_sizes(experiment: Experiment, file: str) -> None:
    budget, count = experiment.budget, experiment.seed_set.count
    if budget.labels < count:
        reason = f"{budget.labels} labels do not cover the seed set of {count}"
        raise BadInput(f"{file}, budget.labels", reason, "allow more, or make the seed set smaller")
    wanted = {f"arm {arm.name}, candidates": arm.candidates for arm in experiment.arms}
    for key, candidates in ({"budget.candidates": budget.candidates} | wanted).items():
        if candidates is not None and candidates < budget.batch:
            reason = f"a batch of {budget.batch} cannot be chosen of {candidates}"
            raise BadInput(f"{file}, {key}", reason, "allow more, or ask for fewer")
