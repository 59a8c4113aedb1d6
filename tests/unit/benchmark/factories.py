"""Small experiments and lines for the tests of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from worker.benchmark.experiment import Experiment, merged, parse_experiment
from worker.benchmark.records import RoundLine
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
