"""Runs: what arms share, where a run that was cut off goes on, and what is refused."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import BadInput, Conflict
from tests.unit.benchmark.factories import FIT, make_experiment, make_plan
from worker.benchmark.datasets import divide, draw_seed_set, open_dataset
from worker.benchmark.records import Folder, RunKey
from worker.benchmark.runner import Plan, run
from worker.benchmark.running import RunProgress
from worker.learning.oracle import SimulatedOracle

CLOCKS = ("seconds_fit", "seconds_score", "seconds_select", "seconds_evaluate")


def found_in(folder: Folder) -> list[dict[str, Any]]:
    """Everything that was found, clocks left out, as it stands after deduplication."""
    tables = [asdict(one) for one in (*folder.lines(), *folder.round_details())]
    return [{key: value for key, value in table.items() if key not in CLOCKS} for table in tables]


def run_all(plan: Plan) -> Folder:
    return run(plan, lambda _progress: None)


def run_until(plan: Plan, rounds: int) -> None:
    """Run and be interrupted when so many rounds have ended."""
    ended = 0

    def interrupt(progress: RunProgress) -> None:
        nonlocal ended
        ended += progress.stage is None
        if ended == rounds:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plan, interrupt)


def interrupt_within_a_fit(plan: Plan, round_number: int) -> None:
    def interrupt(progress: RunProgress) -> None:
        if progress.round == round_number and progress.stage is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plan, interrupt)


def test_each_round_of_each_arm_and_seed_is_one_line_up_to_the_budget(tmp_path: Path) -> None:
    folder = run_all(make_plan(tmp_path))
    written = [json.loads(line) for line in folder.results.read_text().splitlines()]
    assert {(one["arm"], one["seed"]) for one in written} == {
        (arm, seed) for arm in ("random", "margin") for seed in (0, 1)
    }
    for arm in ("random", "margin"):
        for seed in (0, 1):
            rounds = [(one["round"], one["labels"]) for one in written if (one["arm"], one["seed"]) == (arm, seed)]
            assert rounds == [(1, 10), (2, 16), (3, 22), (4, 26)]
    assert list(written[0]) == [
        "experiment", "arm", "seed", "round", "labels", "pseudo_labels", "test_accuracy", "test_nll", "ece",
        "mean_entropy", "seconds_fit", "seconds_score", "seconds_select", "mean_pool_entropy",
    ]  # fmt: skip
    assert not folder.cache.exists()


def test_arms_of_a_seed_share_seed_set_and_first_fit_and_ask_otherwise(tmp_path: Path) -> None:
    folder = run_all(make_plan(tmp_path))
    first = {(one.arm, one.seed): one for one in folder.lines() if one.round == 1}
    for seed in (0, 1):
        assert first["random", seed].test_nll == first["margin", seed].test_nll
    assert first["random", 0].test_nll != first["random", 1].test_nll
    asked = {one.arm: one.asked_rows for one in folder.round_details() if (one.seed, one.round) == (0, 1)}
    assert len(set(asked["random"])) == len(set(asked["margin"])) == 6
    assert asked["random"] != asked["margin"]


def test_no_image_is_asked_about_twice_and_none_outside_the_pool(tmp_path: Path) -> None:
    experiment = make_experiment()
    folder = run_all(make_plan(tmp_path, experiment))
    dataset = open_dataset(experiment.data, 8, Path("/nowhere"), tmp_path / "again")
    pool = divide(dataset, experiment, 0).pool_rows
    seeds = draw_seed_set(dataset, pool, experiment, 0)
    asked = [row for one in folder.round_details() if (one.arm, one.seed) == ("margin", 0) for row in one.asked_rows]
    assert len(asked) == len(set(asked)) == 16
    assert set(asked) <= set(pool) - set(seeds)


def test_candidates_are_drawn_anew_each_round_and_alike_for_all_arms(tmp_path: Path) -> None:
    experiment = make_experiment(budget={"candidates": 6})  # as many as the batch: each arm has to ask about them all
    details = run_all(make_plan(tmp_path, experiment, seeds=1)).round_details()
    asked = {(one.arm, one.round): set(one.asked_rows) for one in details}
    assert asked["random", 1] == asked["margin", 1]
    assert not asked["random", 1] & asked["random", 2]


def test_an_arm_can_have_candidates_of_its_own(tmp_path: Path) -> None:
    arms = [{"name": "random", "recipe": {"acquisition": "random"}}, {"name": "few", "candidates": 6}]
    details = run_all(make_plan(tmp_path, make_experiment(arms=arms), seeds=1)).round_details()
    asked = {(one.arm, one.round): set(one.asked_rows) for one in details}
    limited = make_experiment(arms=[arms[0], {"name": "few"}], budget={"candidates": 6})
    others = run_all(make_plan(tmp_path / "limited", limited, seeds=1)).round_details()
    assert {key: rows for key, rows in asked.items() if key[0] == "few"} == {
        (one.arm, one.round): set(one.asked_rows) for one in others if one.arm == "few"
    }
    assert asked["random", 1] != {row for one in others if one.key == ("random", 0, 1) for row in one.asked_rows}


def test_what_was_asked_for_is_told_to_whoever_reads_the_folder(tmp_path: Path) -> None:
    arms = [{"name": "random", "recipe": {"acquisition": "random"}}, {"name": "all", "labels": "all"}]
    folder = run_all(make_plan(tmp_path, make_experiment(arms=arms), seeds=1))
    wanted = folder.wanted()
    assert wanted is not None
    assert (wanted.seeds, wanted.rounds) == (1, {"random": 4, "all": 1})
    assert wanted.class_names == [str(digit) for digit in range(10)]
    assert {line.round for line in folder.lines() if line.arm == "random"} == {1, 2, 3, 4}


def test_details_hold_brier_and_roc_areas(tmp_path: Path) -> None:
    detail = run_all(make_plan(tmp_path, seeds=1)).round_details()[0]
    assert detail.brier is not None and 0 < detail.brier < 2
    areas = [area for area in detail.roc_aucs if area is not None]
    assert len(detail.roc_aucs) == 10
    assert detail.roc_auc == pytest.approx(sum(areas) / len(areas))


@pytest.mark.parametrize("start", ["scratch", "warm"])
@pytest.mark.parametrize("cut_after", [1, 3, 5])
def test_a_run_that_was_cut_off_goes_on_to_the_same_lines(tmp_path: Path, start: str, cut_after: int) -> None:
    experiment = make_experiment(recipe={"fitting": {**FIT, "start": start}})
    expected = found_in(run_all(make_plan(tmp_path / "whole", experiment)))
    plan = make_plan(tmp_path / "cut", experiment)
    run_until(plan, cut_after)
    assert len(Folder(plan.out).lines()) == cut_after
    interrupt_within_a_fit(plan, 3)
    with Folder(plan.out).results.open("a") as results:
        results.write('{"experiment": "tiny", "arm": "ran')
    folder = run_all(plan)
    assert found_in(folder) == expected
    assert len(folder.results.read_text().splitlines()) == len(expected) // 2


def test_warm_starts_go_on_from_the_round_before(tmp_path: Path) -> None:
    warm = make_experiment(recipe={"fitting": {**FIT, "start": "warm"}})
    details = run_all(make_plan(tmp_path, warm, seeds=1)).round_details()
    assert [one.started_from for one in details if one.arm == "margin"] == ["scratch", "warm", "warm", "warm"]


def test_fits_look_at_the_test_images_only_where_the_experiment_says_so(tmp_path: Path) -> None:
    fitting = {**FIT, "start": "warm", "epochs": 30, "patience": 100, "reduce_after": 100, "learning_rate": 0.05}
    looking = make_experiment(splits={"validation": "test"}, recipe={"fitting": {**fitting, "stop_by": "accuracy"}})
    lines = run_all(make_plan(tmp_path / "looking", looking)).lines()
    for key in {(one.arm, one.seed) for one in lines}:
        accuracies = [one.test_accuracy for one in lines if (one.arm, one.seed) == key]
        assert accuracies == sorted(accuracies)  # what the weights of a round did best, the next can only beat
    blind = make_experiment(recipe={"fitting": fitting})
    others = run_all(make_plan(tmp_path / "blind", blind)).lines()
    # In the first round both fits take the same steps, and only one chooses among its epochs by the test images.
    first, blindly = ([one.test_accuracy for one in found if one.round == 1] for found in (lines, others))
    assert all(one >= other for one, other in zip(first, blindly, strict=True))
    assert first != blindly


def test_runs_that_look_at_test_images_are_not_mixed_with_those_that_do_not(tmp_path: Path) -> None:
    run_all(make_plan(tmp_path, seeds=1))
    with pytest.raises(Conflict, match="another splits; give another --out"):
        run_all(make_plan(tmp_path, make_experiment(splits={"validation": "test"}), seeds=1))


def test_without_its_state_a_run_is_repeated_and_no_line_comes_twice(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, seeds=1)
    folder = run_all(plan)
    before = folder.results.read_text()
    (tmp_path / "state" / "margin.0.npz").unlink()
    run_all(plan)
    assert folder.results.read_text() == before


def test_more_seeds_are_added_to_those_that_are_there(tmp_path: Path) -> None:
    one = found_in(run_all(make_plan(tmp_path, seeds=1)))
    two = found_in(run_all(make_plan(tmp_path, seeds=2)))
    assert len(two) == 2 * len(one)
    assert [table for table in two if table["seed"] == 0] == one


def test_results_of_other_conditions_are_not_mixed(tmp_path: Path) -> None:
    run_all(make_plan(tmp_path, seeds=1))
    noisy = make_experiment(oracle={"noise": 0.2})
    with pytest.raises(Conflict, match="another oracle; give another --out"):
        run_all(make_plan(tmp_path, noisy, seeds=1))
    renamed = make_experiment(arms=[{"name": "random"}, {"name": "margin", "recipe": {"acquisition": "entropy"}}])
    with pytest.raises(Conflict, match="another arm random, arm margin;"):
        run_all(make_plan(tmp_path, renamed, seeds=1))


def test_arms_can_be_added(tmp_path: Path) -> None:
    experiment = make_experiment()
    run_all(make_plan(tmp_path, experiment, seeds=1))
    more = (*experiment.arms, experiment.arms[0].model_copy(update={"name": "again"}))
    folder = run_all(make_plan(tmp_path, experiment.model_copy(update={"arms": more}), seeds=1))
    figures = {arm: [one.test_nll for one in folder.lines() if one.arm == arm] for arm in ("random", "again")}
    assert figures["again"] == figures["random"]


def test_two_benchmarks_never_share_a_folder(tmp_path: Path) -> None:
    with Folder(tmp_path).held(), pytest.raises(Conflict, match="another benchmark runs there"):
        run_all(make_plan(tmp_path))


def test_an_arm_with_all_labels_is_fitted_once_to_the_whole_pool(tmp_path: Path) -> None:
    arms = [{"name": "random", "recipe": {"acquisition": "random"}}, {"name": "all", "labels": "all"}]
    lines = run_all(make_plan(tmp_path, make_experiment(arms=arms), seeds=1)).lines()
    assert [(one.round, one.labels) for one in lines if one.arm == "all"] == [(1, 60)]


def test_a_cold_start_is_chosen_by_the_learner(tmp_path: Path) -> None:
    experiment = make_experiment(seed_set={"draw": "cold_start"})
    lines = run_all(make_plan(tmp_path, experiment, seeds=1)).lines()
    assert [one.labels for one in lines if one.arm == "margin"] == [10, 16, 22, 26]
    drawn = run_all(make_plan(tmp_path / "drawn", make_experiment(), seeds=1)).lines()
    assert lines[0].test_nll != drawn[0].test_nll


def test_wrong_answers_are_those_of_the_simulated_oracle(tmp_path: Path) -> None:
    experiment = make_experiment(oracle={"noise": 0.4})
    folder = run_all(make_plan(tmp_path, experiment, seeds=1))
    dataset = open_dataset(experiment.data, 8, Path("/nowhere"), tmp_path / "again")
    state = folder.state(RunKey("margin", 0))
    answers = SimulatedOracle(dataset.labels_N, 10, 0.4, seed=0).answer(state.rows)
    np.testing.assert_array_equal(state.answers, answers)
    last = [one for one in folder.round_details() if one.arm == "margin"][-1]
    assert last.wrong_labels == int((answers != dataset.labels_N[state.rows]).sum()) > 4
    assert last.labels_per_class == np.bincount(answers, minlength=10).tolist()


def test_too_few_images_are_told_before_anything_is_run(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, make_experiment(splits={"test": 1790}))
    with pytest.raises(BadInput, match=r"splits.pool: 60 are wanted and there are 7"):
        run_all(plan)
    assert not Folder(tmp_path).results.exists()


def test_a_run_that_cannot_be_made_is_named_with_its_arm_and_seed(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, make_experiment(seed_set={"count": 12}))
    told = r"arm random, seed 0, tiny.toml, seed_set.count: 12 cannot be balanced over 10 classes; use a multiple"
    with pytest.raises(BadInput, match=told):
        run_all(plan)
