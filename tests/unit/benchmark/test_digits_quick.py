"""The experiment that is run whenever something changes, at a tiny scale: every arm, to its end, with its report."""

from __future__ import annotations

from pathlib import Path

from tests.unit.benchmark.factories import make_plan
from worker.benchmark.experiment import Scale, load_experiment, merged, parse_experiment
from worker.benchmark.report import write_report
from worker.benchmark.runner import run


def test_every_arm_of_digits_quick_runs_to_its_end_and_is_reported(tmp_path: Path) -> None:
    table = load_experiment("digits-quick", Scale.QUICK).model_dump(mode="json")
    small = {
        "splits": {"pool": 200, "test": 50},
        "budget": {"labels": 30, "batch": 10},
        "recipe": {"fitting": {"epochs": 1, "least_steps": 1}},
    }
    experiment = parse_experiment(merged(table, small), "digits-quick.toml")
    folder = run(make_plan(tmp_path, experiment, seeds=1), lambda _progress: None)
    found = {arm.name: [line.labels for line in folder.lines() if line.arm == arm.name] for arm in experiment.arms}
    assert all(labels == [20, 30] for labels in found.values()), found
    text = write_report(tmp_path).read_text()
    assert all(arm in text for arm in found)
