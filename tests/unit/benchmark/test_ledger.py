"""Pseudo-labels in benchmarks: carried from round to round, held against the truth, and told in tables."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import BadInput
from tests.unit.benchmark.factories import make_experiment, make_line, make_plan
from tests.unit.benchmark.test_report import make_detail, numbers, read
from tests.unit.benchmark.test_running import found_in, interrupt_within_a_fit, run_all, run_until
from worker.benchmark.datasets import Dataset, divide, is_fair_draw, open_dataset
from worker.benchmark.experiment import Experiment
from worker.benchmark.records import Folder, RunKey
from worker.benchmark.report import write_report
from worker.benchmark.running import rounds_expected

FIT = {"name": "supervised", "epochs": 30, "learning_rate": 0.02, "least_steps": 2, "augment": False}
THRESHOLD = {"name": "threshold", "confidence": 0.6}
MOST_CONFIDENT = {"name": "most_confident", "count": 4}
BUDGET = {"name": "budget_annotator", "confidence": 0.5, "per_round": 5, "total": 12}
ANNOTATING = ("threshold", "most_confident", "budget")


def make_annotated(extra_rounds: int = 3, **changes: Any) -> Experiment:
    arms = [{"name": "random", "recipe": {"acquisition": "random", "pseudo_labeler": "none"}}]
    for name, labeler in zip(ANNOTATING, (THRESHOLD, MOST_CONFIDENT, BUDGET), strict=True):
        arms.append({"name": name, "against": "random", "recipe": {"acquisition": "margin", "pseudo_labeler": labeler}})
    usual = {
        "recipe": {"fitting": FIT, "random_share": 0.3},
        "budget": {"extra_rounds": extra_rounds},
        "arms": arms,
        "seeds": 1,
    }
    return make_experiment(**{**usual, **changes})


def rounds_of(folder: Folder, arm: str) -> list[tuple[int, int, int]]:
    return [(one.round, one.labels, one.pseudo_labels) for one in folder.lines() if one.arm == arm]


def open_digits(experiment: Experiment, path: Path) -> Dataset:
    return open_dataset(experiment.data, 8, Path("/nowhere"), path / "again")


@pytest.mark.parametrize("start", ["scratch", "warm"])
@pytest.mark.parametrize("cut_after", [2, 9, 13])
def test_a_run_with_pseudo_labels_that_was_cut_off_goes_on_to_the_same(
    tmp_path: Path, start: str, cut_after: int
) -> None:
    experiment = make_annotated(recipe={"fitting": {**FIT, "start": start}, "random_share": 0.3})
    expected = found_in(run_all(make_plan(tmp_path / "whole", experiment)))
    assert sum(one["pseudo_labels"] for one in expected) > 100
    plan = make_plan(tmp_path / "cut", experiment)
    run_until(plan, cut_after)
    interrupt_within_a_fit(plan, 3)
    assert found_in(run_all(plan)) == expected


def test_rounds_after_the_budget_are_for_arms_that_label_by_themselves(tmp_path: Path) -> None:
    experiment = make_annotated()
    folder = run_all(make_plan(tmp_path, experiment))
    assert rounds_of(folder, "random") == [(1, 10, 0), (2, 16, 0), (3, 22, 0), (4, 26, 0)]
    # Four images after the last label is spent, and four more in every round that follows.
    assert rounds_of(folder, "most_confident") == [
        *((1, 10, 0), (2, 16, 0), (3, 22, 0), (4, 26, 0), (5, 26, 4), (6, 26, 8), (7, 26, 12)),
    ]
    for arm in experiment.arms:
        assert len(rounds_of(folder, arm.name)) == rounds_expected(experiment, arm.name)
    assert [labels for _, labels, _ in rounds_of(folder, "budget")] == [10, 16, 22, 26, 26, 26, 26]


def test_each_round_learns_from_what_stood_after_the_one_before_but_for_new_answers(tmp_path: Path) -> None:
    experiment = make_annotated()
    folder = run_all(make_plan(tmp_path, experiment))
    for arm in ANNOTATING:
        details = [one for one in folder.round_details() if one.arm == arm]
        for before, after in pairwise(details):
            stood = before.pseudo_report["standing"]
            assert stood - len(before.asked_rows) <= after.pseudo_labels <= stood
            if not before.asked_rows:
                assert after.pseudo_labels == stood
        assert max(one.pseudo_labels for one in details) > 0
    assert max(one.pseudo_labels for one in folder.round_details() if one.arm == "budget") == 12


def test_what_stands_at_the_end_was_never_answered_and_its_truth_is_counted(tmp_path: Path) -> None:
    experiment = make_annotated(oracle={"noise": 0.2})
    folder = run_all(make_plan(tmp_path, experiment))
    dataset = open_digits(experiment, tmp_path)
    pool = set(divide(dataset, experiment, 0).pool_rows)
    for arm in ANNOTATING:
        state = folder.state(RunKey(arm, 0))
        assert state is not None
        assert not set(state.pseudo.rows) & set(state.rows)
        assert set(state.pseudo.rows) <= pool
    # The last round learned from what stood before it: run one round less and look at what stands.
    cut = make_plan(tmp_path / "cut", experiment)
    run_until(cut, 4 + 7 + 7 + 6)
    state = Folder(cut.out).state(RunKey("budget", 0))
    assert state is not None
    last = [one for one in folder.round_details() if one.arm == "budget"][-1]
    assert (last.round, last.pseudo_labels) == (7, len(state.pseudo))
    stood = zip(state.pseudo.rows, state.pseudo.labels, strict=True)
    assert last.pseudo_right == sum(dataset.labels_N[row] == own for row, own in stood)


def test_uniform_draws_are_remembered(tmp_path: Path) -> None:
    experiment = make_annotated(seed_set={"draw": "uniform"})
    folder = run_all(make_plan(tmp_path, experiment))
    random, mixed = (folder.state(RunKey(arm, 0)) for arm in ("random", "threshold"))
    assert random is not None and mixed is not None
    assert random.is_drawn.shape == random.rows.shape
    assert random.is_drawn.all()
    assert mixed.is_drawn[:10].all()
    assert 0 < mixed.is_drawn[10:].sum() < len(mixed.rows) - 10


def test_as_many_of_each_class_are_fair_only_where_the_pool_has_them() -> None:
    labels = np.repeat(np.arange(10), [40] * 9 + [19])
    dataset = Dataset(np.zeros((379, 8, 8, 1), np.uint8), labels, tuple("abcdefghij"), 379, 1)
    rows = np.arange(379)
    assert not is_fair_draw(dataset, rows, make_experiment())
    assert is_fair_draw(dataset, rows[:361], make_experiment()) is False  # one of the last class is left
    assert is_fair_draw(dataset, rows, make_experiment(seed_set={"draw": "uniform"}))
    even = Dataset(dataset.images_NHWC, np.arange(379) % 10, dataset.class_names, 379, 1)
    assert is_fair_draw(even, rows, make_experiment())


def test_a_precision_is_measured_on_seeds_and_uniform_queries(tmp_path: Path) -> None:
    labeler = {"name": "threshold", "way": "precision", "most_wrong": 0.3, "certainty": 0.8, "held_out": 0.5}
    arms = [{"name": "random", "recipe": {"acquisition": "random", "pseudo_labeler": labeler}}]
    experiment = make_annotated(arms=arms, splits={"pool": 400, "test": 40}, budget={"labels": 100, "batch": 30})
    details = run_all(make_plan(tmp_path, experiment)).round_details()
    assert details[0].pseudo_report["held_out"] == 0
    assert details[0].pseudo_report["reason"].endswith("are needed")
    assert details[-1].pseudo_report["held_out"] > 30
    found = [one for one in details if one.pseudo_report["threshold"] is not None]
    assert found and all(one.pseudo_report["standing"] > 0 for one in found)


def test_a_state_from_before_there_were_pseudo_labels_is_read(tmp_path: Path) -> None:
    folder = run_all(make_plan(tmp_path, seeds=1))
    path = tmp_path / "state" / "margin.0.npz"
    with np.load(path) as file:
        old = {name: file[name] for name in file if not name.startswith("pseudo") and name != "is_drawn"}
    np.savez(path, **old)
    state = folder.state(RunKey("margin", 0))
    assert state is not None
    assert (state.is_done, len(state.pseudo), state.is_drawn.any()) == (True, 0, False)


def test_an_arm_is_held_against_one_that_there_is() -> None:
    with pytest.raises(BadInput, match="arm random, against: no arm is called 'nobody'; use one of random"):
        make_experiment(arms=[{"name": "random", "against": "nobody"}])


def test_tables_and_verdicts_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    arms = [{"name": "random"}, {"name": "margin", "against": "random"}]
    folder = Folder(tmp_path)
    folder.begin(make_experiment(arms=arms))
    for seed, accuracies in enumerate(((0.5, 0.8, 0.9), (0.6, 0.7, 0.8))):
        for labels, accuracy in zip((10, 20), accuracies, strict=False):
            folder.add(make_line("random", seed, labels, accuracy), make_detail("random", seed, labels))
        # three rounds, the last two at 20 labels, with 0, 10 and 40 labels of models
        for number, (labels, pseudo, accuracy) in enumerate(zip((10, 20, 20), (0, 10, 40), accuracies, strict=True), 1):
            known = {"pseudo_labels": pseudo, "round": number}
            detail = make_detail("margin", seed, labels, **known, pseudo_right=pseudo - 2 * seed if pseudo else 0)
            folder.add(make_line("margin", seed, labels, accuracy, **known), detail)
    text = write_report(tmp_path).read_text()
    second, third = read(tmp_path, "ledger")
    assert (second["arm"], second["round"], third["round"]) == ("margin", "2", "3")
    assert numbers(second, "labels", "pseudo_labels", "seeds", "precision") == pytest.approx([20, 10, 2, 0.9])
    assert numbers(third, "pseudo_labels", "precision", "test_accuracy") == pytest.approx([40, (1 + 0.95) / 2, 0.85])
    first, last = read(tmp_path, "beside")
    assert (first["arm"], first["against"], first["labels"]) == ("margin", "random", "10")
    assert numbers(first, "difference") == [0]
    assert numbers(last, "labels", "pseudo_labels", "test_accuracy", "other_accuracy", "difference") == pytest.approx(
        [20, 40, 0.85, 0.75, 0.1]
    )
    assert "margin is better than random: +10.00 points" in text
    assert "at 20 human labels; of its 40 pseudo-labels 97.50% are right." in text
