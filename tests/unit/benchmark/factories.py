"""Small experiments and lines for the tests of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from worker.benchmark.experiment import Experiment, merged, parse_experiment
from worker.benchmark.records import Folder, RoundDetail, RoundLine, Wanted
from worker.benchmark.runner import Plan

FIT = {"name": "supervised", "epochs": 2, "least_steps": 2, "augment": False}


def make_table(**changes: Any) -> dict[str, Any]:
    table = {
        "name": "tiny",
        "scale": "quick",
        "title": "Tiny",
        "description": "Small enough for a test.",
        "seeds": 2,
        "data": {"name": "digits"},
        "splits": {"pool": 60, "test": 40},
        "seed_set": {"count": 10, "draw": "balanced"},
        "budget": {"labels": 26, "batch": 6},
        "recipe": {"network": "softmax_regression", "image_side": 8, "fitting": FIT},
        "arms": [
            {"name": "random", "recipe": {"acquisition": "random"}},
            {"name": "margin", "recipe": {"acquisition": "margin"}},
        ],
    }
    return merged(table, changes)


def make_experiment(**changes: Any) -> Experiment:
    return parse_experiment(make_table(**changes), "tiny.toml")


def make_plan(out: Path, experiment: Experiment | None = None, **changes: Any) -> Plan:
    experiment = experiment or make_experiment()
    usual = {"seeds": experiment.seeds, "data": Path("/nowhere"), "out": out, "jobs": 1, "device": "cpu"}
    return Plan(experiment=experiment, **{**usual, **changes})


def make_line(arm: str, seed: int, labels: int, test_accuracy: float, **changes: Any) -> RoundLine:
    usual = {
        "experiment": "tiny",
        "round": labels // 10,
        "pseudo_labels": 0,
        "test_nll": 0.5,
        "ece": 0.1,
        "mean_entropy": 0.3,
        "seconds_fit": 2.0,
        "seconds_score": 0.5,
        "seconds_select": 0.25,
    }
    return RoundLine(arm=arm, seed=seed, labels=labels, test_accuracy=test_accuracy, **{**usual, **changes})


def make_detail(arm: str, seed: int, labels: int, **changes: Any) -> RoundDetail:
    usual = {
        "round": labels // 10,
        "epochs": 3,
        "best_epoch": 2,
        "steps": 9,
        "stopped_by": "epochs",
        "started_from": "scratch",
        "seconds_evaluate": 0.1,
        "wrong_labels": 0,
        "labels_per_class": [labels - 1, 1],
        "recalls": [0.875, 0.75],
        "precisions": [1.0, None],
        "confusion": [[7, 1], [2, 6]],
        "asked_rows": [],
        "brier": 0.25,
        "roc_auc": 0.75,
        "roc_aucs": [0.75, 0.75],
    }
    return RoundDetail(arm=arm, seed=seed, **{**usual, **changes})


def make_results_folder(path: Path, seeds: int = 2, wanted: int = 2, **changes: Any) -> Folder:
    """Make what a benchmark of three rounds leaves: margin is ahead of random and ends at 90%."""
    folder = Folder(path)
    path.mkdir(parents=True, exist_ok=True)
    experiment = make_experiment(**changes)
    folder.begin(experiment)
    folder.want(Wanted(wanted, {arm.name: 3 for arm in experiment.arms}, ["cat", "dog"]))
    for arm, gain in (("random", 0.0), ("margin", 0.05)):
        for seed in range(seeds):
            for labels in (10, 20, 30):
                line = make_line(arm, seed, labels, 0.55 + labels / 100 + gain)
                folder.add(line, make_detail(arm, seed, labels))
    return folder
