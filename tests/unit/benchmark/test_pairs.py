"""Co-training in benchmarks: what is seen of the pair is the truth, survives a kill, and stands in the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.benchmark.factories import FIT, make_experiment, make_plan
from tests.unit.learning.factories import make_network
from worker.benchmark.datasets import divide, open_dataset
from worker.benchmark.ledger import ledger_verdicts
from worker.benchmark.pair_report import co_training, pair_tables, pair_verdicts
from worker.benchmark.pairs import PairWatch
from worker.benchmark.records import Folder, RoundDetail
from worker.benchmark.report import write_report
from worker.benchmark.results import Results
from worker.benchmark.runner import run
from worker.learning.co_training import PairEpoch, Source
from worker.learning.networks import Network
from worker.learning.pool import normalise
from worker.learning.pseudo_labelers import PseudoLabels


def make_pair_experiment():
    """60 labels, all given at once, and 240 images that nobody labels."""
    teaching = {"name": "co_training", "epochs": 3, "confidence": 0.25}
    alone, taught = (
        {"acquisition": "random", "pseudo_labeler": {**teaching, "condition": condition}} for condition in (0, 1)
    )
    arms = [{"name": "alone", "recipe": alone}, {"name": "taught", "against": "alone", "recipe": taught}]
    return make_experiment(
        baseline="alone",
        splits={"pool": 300, "test": 100},
        seed_set={"count": 60},
        budget={"labels": 60},
        recipe={
            "network": "al_cnn",
            "posterior": {"name": "committee", "members": 2},
            "fitting": {**FIT, "epochs": 12},
        },
        arms=arms,
    )


def results_of(folder: Folder) -> Results:
    return Results.of(folder.experiment(), folder.lines(), folder.round_details())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return run(make_plan(tmp_path_factory.mktemp("pairs"), make_pair_experiment()), lambda _progress: None)


def test_every_epoch_of_every_run_is_kept_and_arms_start_alike(folder: Folder) -> None:
    details = {(one.arm, one.seed): one for one in folder.round_details()}
    assert all([epoch["epoch"] for epoch in one.pair] == [0, 1, 2, 3] for one in details.values())
    for seed in (0, 1):
        starts = [details[arm, seed].pair[0]["accuracy_a"] for arm in ("alone", "taught")]
        assert starts[0] == starts[1]
    assert [epoch["source"] for epoch in details["taught", 0].pair] == ["nobody", "other", "other", "other"]
    taken = [epoch["taken_a"] + epoch["taken_b"] for epoch in details["taught", 0].pair]
    assert sum(taken) > 0 and "pair" not in details["taught", 0].pseudo_report
    assert sum(epoch["taken_a"] for epoch in details["alone", 0].pair) == 0


def networks_apart() -> tuple[Network, Network]:
    first, second = (make_network("al_cnn", seed=seed, classes=10) for seed in range(2))
    return first, second


def test_what_is_seen_is_the_truth(tmp_path: Path) -> None:
    experiment = make_pair_experiment()
    dataset = open_dataset(experiment.data, 8, Path("/nowhere"), tmp_path)
    division, networks = divide(dataset, experiment, 0), networks_apart()
    watch, rows = PairWatch(dataset, division), np.arange(5)
    wrong = (dataset.labels_N[rows] + np.array([0, 0, 1, 0, 1])) % 10
    taken = PseudoLabels(rows, wrong, np.ones(5, np.float32)), PseudoLabels.none()
    watch.see(PairEpoch(2, Source.OWN, taken, (0.5, 0.25), networks))
    [seen] = watch.epochs
    images = normalise(torch.from_numpy(np.asarray(dataset.images_NHWC[division.test_rows])))
    with torch.inference_mode():
        right = [
            (network(images).argmax(1).numpy() == dataset.labels_N[division.test_rows]).mean() for network in networks
        ]
    assert [seen["accuracy_a"], seen["accuracy_b"]] == right
    assert (seen["taken_a"], seen["right_a"], seen["taken_b"], seen["right_b"]) == (5, 3, 0, 0)


def test_a_run_that_was_cut_off_sees_the_same(folder: Folder, tmp_path: Path) -> None:
    plan = make_plan(tmp_path, make_pair_experiment())
    rounds = 0

    def interrupt(progress: object) -> None:
        nonlocal rounds
        rounds += 1
        if rounds > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plan, interrupt)
    again = run(plan, lambda _progress: None)
    assert [one.pair for one in again.round_details()] == [one.pair for one in folder.round_details()]


def test_the_table_has_means_over_seeds_and_the_share_that_is_right(folder: Folder) -> None:
    table, details = co_training(results_of(folder)), folder.round_details()
    rows = {(row[0], row[1]): dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert list(rows) == [(arm, epoch) for arm in ("alone", "taught") for epoch in range(4)]
    for (arm, epoch), row in rows.items():
        found = [one.pair[epoch] for one in details if one.arm == arm]
        assert row["seeds"] == len(found) == 2
        assert row["accuracy_b"] == pytest.approx(np.mean([one["accuracy_b"] for one in found]))
        assert row["accuracy"] == pytest.approx((float(row["accuracy_a"]) + float(row["accuracy_b"])) / 2)
        taken = sum(one["taken_a"] + one["taken_b"] for one in found)
        right = sum(one["right_a"] + one["right_b"] for one in found)
        assert row["precision"] == (right / taken if taken else None)
    assert rows["alone", 3]["precision"] is None and rows["taught", 1]["precision"] is not None


def test_the_report_tells_how_far_each_pair_came(folder: Folder) -> None:
    text = write_report(folder.path).read_text()
    assert "Co-training, epoch by epoch" in text and "epochs of co-training" in text
    assert (folder.path / "co_training.csv").exists() and (folder.path / "co_training.png").exists()
    [alone, taught] = pair_verdicts(results_of(folder))
    before, after = (
        [
            sum(one.pair[at][f"accuracy_{side}"] for side in "ab") / 2
            for one in folder.round_details()
            if one.arm == "taught"
        ]
        for at in (0, -1)
    )
    assert taught.startswith(
        f"taught: each of the two networks from {np.mean(before):.1%} to {np.mean(after):.1%} in 3 "
    )
    assert f"{100 * (np.mean(after) - np.mean(before)):+.1f} points [" in taught
    assert alone in text.replace("&#39;", "'") and taught in text


def test_a_pair_that_taught_is_not_said_to_have_had_no_pseudo_labels(folder: Folder) -> None:
    [said] = ledger_verdicts(results_of(folder))
    assert said.startswith("taught is ") and "pseudo-labels" not in said


def test_without_pairs_there_is_no_table() -> None:
    detail = RoundDetail("random", 0, 1, 1, 1, 1, "epochs", "scratch", 0.1, 0, [1], [None], [None], [[1]], [])
    results = Results.of(make_experiment(), [], [detail])
    assert pair_tables(results) == [] and list(pair_verdicts(results)) == []
