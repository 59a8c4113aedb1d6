"""Experiments: files that can be read, and what is said of those that cannot."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from app.errors import BadInput, NotFound
from app.recipes import parse_recipe
from tests.unit.benchmark.factories import make_experiment, make_table
from worker.benchmark.experiment import (
    SHORTER_SIDES,
    Data,
    Experiment,
    Scale,
    known_experiments,
    load_experiment,
    merged,
    parse_experiment,
)

GOOD = """
title = "T"
description = "D"
data = { name = "digits" }
splits = { test = 40 }
seed_set = { count = 10 }
budget = { labels = 20, batch = 5 }
recipe = { network = "al_cnn", image_side = 8 }

[[arms]]
name = "random"
recipe = { acquisition = "random" }

[[arms]]
name = "margin"
recipe = { acquisition = "margin" }

[scales.quick]
seeds = 2
arms = ["random"]

[scales.full]
seeds = 9
budget = { labels = 30 }
"""


@pytest.mark.parametrize("scale", list(Scale))
@pytest.mark.parametrize("name", known_experiments())
def test_every_experiment_of_ours_can_be_read_at_both_scales(name: str, scale: Scale) -> None:
    experiment = load_experiment(name, scale)
    assert experiment.name == name
    if experiment.budget.labels > experiment.seed_set.count:  # else nothing is asked about, so no arm asks at random
        assert experiment.arm(experiment.baseline).recipe["acquisition"] == "random"
    for arm in experiment.arms:
        assert experiment.recipe_of(arm, 7).seed == 7


@pytest.mark.parametrize("scale", list(Scale))
def test_only_what_was_published_so_looks_at_its_test_images(scale: Scale) -> None:
    looking = [name for name in known_experiments() if load_experiment(name, scale).splits.validation is not None]
    assert looking == ["e-mnist"]
    assert "as published" in load_experiment("e-mnist", scale).title


def test_a_scale_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(GOOD)
    quick, full = (load_experiment(str(tmp_path / "mine.toml"), scale) for scale in Scale)
    assert (quick.name, quick.seeds, quick.budget.labels, [arm.name for arm in quick.arms]) == (
        "mine",
        2,
        20,
        ["random"],
    )
    assert (full.seeds, full.budget.labels, full.budget.batch, len(full.arms)) == (9, 30, 5, 2)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('title = "T"', 'titel = "T"', ["mine.toml, titel: there is no such key", "use any of: name, scale, title"]),
        ('title = "T"', "", ["mine.toml, title: it is missing; add it"]),
        ("count = 10", "cont = 10", ["mine.toml, seed_set.cont: there is no such key; use any of: count, draw"]),
        ("count = 10", "count = 10, more = 1", ["seed_set.more: there is no such key; use any of: count, draw"]),
        ("count = 10", "count = 0", ["seed_set.count: 0 cannot be used; it should be greater than or equal to 1"]),
        ("count = 10", 'count = "ten"', ["seed_set.count: 'ten' cannot be used", "should be a valid integer"]),
        ('"digits"', '"letters"', ["data.name: 'letters' cannot be used", "'digits', 'mnist'"]),
        ('acquisition = "margin"', 'acquisition = "margn"', ["arm margin, recipe.acquisition", "least_confidence"]),
        ('acquisition = "margin"', "fitting = { epoch = 3 }", ["recipe.fitting.epoch", "use any of: start, epochs"]),
        ('acquisition = "margin"', "seed = 3", ["margin.seed: a run sets it; use --seeds"]),
        ('acquisition = "margin"', "image_side = 9", ["different sides [8, 9]"]),
        ('name = "margin"', 'name = "random"', ["arms: a name stands there twice"]),
        ('name = "random"', 'name = "rand"', ["scales.quick.arms: there is no arm called 'random'"]),
        ('name = "margin"', 'name = "margin"\ncandidates = 3', ["arm margin, candidates: a batch of 5 cannot"]),
        ('title = "T"', 'title = "T"\npictures = ["cats"]', ["pictures.0: 'cats' cannot be used", "'centroids'"]),
        ("test = 40", 'test = 40, validation = "pool"', ["splits.validation: 'pool' cannot be used", "be 'test'"]),
        ("labels = 20", "labels = 9", ["budget.labels: 9 labels do not cover the seed set of 10"]),
        ("[scales.quick]", "[scales.quik]", ["scales.quik: there is no such scale; use quick and full"]),
        ("seeds = 2", "", ["mine.toml, seeds: it is missing"]),
        ('title = "T"', "title = T", ["it is no TOML", "line 2", "mend that line"]),
        ('title = "T"', 'title = "T"\nname = "other"', ["mine.toml, name: there is no such key"]),
        ('title = "T"', 'title = "T"\nbaseline = "margin"', ["baseline: no arm is called 'margin'; use one of random"]),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_file_key_reason_and_remedy(
    tmp_path: Path, before: str, after: str, told: list[str]
) -> None:
    assert before in GOOD
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(before, after, 1))
    with pytest.raises(BadInput) as caught:
        for scale in Scale:
            load_experiment(str(path), scale)
    assert "mine.toml" in caught.value.subject
    for text in told:
        assert text in str(caught.value)


def test_a_published_series_needs_as_many_values_as_labels() -> None:
    series = {"series": "s", "source": "A", "labels": [10, 20], "values": [0.5]}
    with pytest.raises(BadInput, match="2 labels and 1 values"):
        make_experiment(published=[series])
    with pytest.raises(BadInput, match="no arm is called 'entropy'"):
        make_experiment(published=[{**series, "values": [0.5, 0.6], "arm": "entropy"}])


def test_an_unknown_experiment_is_told_with_those_that_are_known() -> None:
    with pytest.raises(NotFound, match="digits-quick"):
        load_experiment("digits-slow", Scale.QUICK)


def test_changes_keep_the_parameters_of_the_same_choice_and_drop_those_of_another() -> None:
    base = {"fitting": {"name": "supervised", "epochs": 3}, "network": "al_cnn"}
    assert merged(base, {"fitting": {"patience": 2}})["fitting"] == {"name": "supervised", "epochs": 3, "patience": 2}
    assert merged(base, {"fitting": {"name": "other", "share": 1}})["fitting"] == {"name": "other", "share": 1}
    assert merged(base, {"network": {"dropout": 0.1}})["network"] == {"name": "al_cnn", "dropout": 0.1}
    assert base["fitting"] == {"name": "supervised", "epochs": 3}


def test_the_first_fit_is_changed_and_later_ones_are_not() -> None:
    experiment = make_experiment(first_fit={"fitting": {"epochs": 40}})
    arm = experiment.arm("margin")
    assert experiment.recipe_of(arm, 0, first=True).fitting.integer("epochs") == 40
    assert experiment.recipe_of(arm, 0).fitting.integer("epochs") == 2
    assert experiment.recipe_of(arm, 0, first=True).acquisition.name == "margin"


def test_an_experiment_is_read_back_from_what_is_kept_of_it() -> None:
    experiment = make_experiment(published=[{"series": "s", "source": "A", "labels": [10], "values": [0.5]}])
    assert parse_experiment(experiment.model_dump(mode="json"), "kept") == experiment


def test_words_and_seeds_are_no_conditions_and_everything_else_is() -> None:
    def conditions(**changes: object) -> object:
        return Experiment.conditions(parse_experiment({**make_table(), **changes}, "tiny.toml"))

    assert conditions(title="Other", seeds=9, targets=[0.5], pictures=["centroids"]) == conditions()
    judged, other = make_table()["arms"]
    assert conditions(arms=[judged, {**other, "compared": False}]) == conditions()
    assert conditions(arms=[judged, {**other, "candidates": 9}]) != conditions()
    assert conditions(oracle={"noise": 0.1}) != conditions()


def test_the_example_in_the_docs_is_an_experiment(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "benchmarks.md").read_text()
    [example] = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "mine.toml").write_text(example)
    assert [arm.name for arm in load_experiment(str(tmp_path / "mine.toml"), Scale.QUICK).arms] == ["random", "margin"]


@pytest.mark.parametrize("name", ["default-cifar10", "imbalanced-mnist", "noisy-oracle-mnist"])
def test_an_arm_called_default_asks_as_people_are_asked(name: str) -> None:
    experiment = load_experiment(name, Scale.QUICK)
    recipe, given = experiment.recipe_of(experiment.arm("default"), 0), parse_recipe()
    asks = ("posterior", "acquisition", "selection", "random_share", "duplicate_similarity", "batch_size")
    assert [getattr(recipe, part) for part in asks] == [getattr(given, part) for part in asks]


@pytest.mark.parametrize(("data", "side"), [("mnist", 16), ("cifar10", 32)])
def test_a_side_that_is_not_given_follows_the_set(data: str, side: int) -> None:
    experiment = load_experiment("default-cifar10", Scale.QUICK)
    recipe = {name: value for name, value in experiment.recipe.items() if name != "image_side"}
    followed = experiment.model_copy(update={"data": Data(name=data), "recipe": recipe})
    assert followed.image_side == side
    assert followed.recipe_of(followed.arms[0], 0).image_side == side


def test_every_set_says_how_large_its_images_are() -> None:
    assert set(SHORTER_SIDES) == set(get_args(Data.model_fields["name"].annotation))
