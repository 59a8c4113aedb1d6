"""Benchmarks as processes: several at a time, killed in the middle, and as the command that people type."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from tests.processes import clean_environment
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120
CLOCKS = ("seconds_fit", "seconds_score", "seconds_select")
TINY = """
title = "Tiny"
description = "Many short rounds."
data = { name = "digits" }
splits = { pool = 300, test = 200 }
seed_set = { count = 10, draw = "balanced" }
recipe.network = "softmax_regression"
recipe.image_side = 8
recipe.fitting = { name = "supervised", epochs = 3, start = "warm" }

[[arms]]
name = "random"
recipe = { acquisition = "random" }

[[arms]]
name = "entropy"
recipe = { acquisition = "entropy" }

[scales.quick]
seeds = 1
budget = { labels = 130, batch = 4 }

[scales.full]
seeds = 2
budget = { labels = 200, batch = 4 }
"""


def start(*arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
    """Start the command as ``querent`` does, with the code of this folder and these variables."""
    program = "from app.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", program, "benchmark", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=clean_environment(**variables),
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out, err


def run_tiny(folder: Path, *options: str) -> subprocess.Popen[str]:
    (folder / "tiny.toml").write_text(TINY)
    return start("run", folder / "tiny.toml", "--device", "cpu", *options)


def lines(out: Path) -> list[str]:
    path = out / "results.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def found(out: Path) -> list[dict[str, Any]]:
    """The lines sorted, clocks left out."""
    tables = [json.loads(line) for line in lines(out)]
    kept = [{name: value for name, value in table.items() if name not in CLOCKS} for table in tables]
    return sorted(kept, key=lambda table: (table["arm"], table["seed"], table["round"]))


def test_killed_in_the_middle_of_two_processes_it_goes_on_in_one_to_the_same_lines(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    code, said, err = finish(run_tiny(tmp_path, "--jobs", "2", "--out", str(whole)))
    assert code == 0, err
    assert str(whole / "report.html") in said
    assert len(lines(whole)) == 2 * 31

    process = run_tiny(tmp_path, "--jobs", "2", "--out", str(cut))
    until(lambda: len(lines(cut)) >= 5, SECONDS, "five rounds have ended")
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    assert len(children) >= 2
    assert not psutil.wait_procs(children, timeout=20)[1], "its processes end with it"
    assert len(lines(cut)) < 2 * 31, "it was killed too late to show anything"
    with (cut / "results.jsonl").open("a") as results:
        results.write(lines(whole)[-1][:40])

    code, _, err = finish(run_tiny(tmp_path, "--jobs", "1", "--out", str(cut)))
    assert code == 0, err
    assert found(cut) == found(whole)


def test_results_lie_in_the_folder_of_all_results_and_are_named_there(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY.replace("labels = 130", "labels = 14"))
    home = tmp_path / "home"
    options = ("--device", "cpu", "--jobs", "1")
    code, said, err = finish(start("run", tmp_path / "tiny.toml", *options, QUERENT_HOME=str(home)))
    assert code == 0, err
    report = home / "results" / "tiny-quick" / "report.html"
    assert str(report) in said
    report.unlink()
    code, said, err = finish(start("report", "tiny-quick", QUERENT_RESULTS=str(home / "results")))
    assert code == 0, err
    assert report.exists()


def test_a_mistake_is_one_line_and_the_exit_code_comes_through(tmp_path: Path) -> None:
    code, _, err = finish(start("run", "no-such-thing"))
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("querent: experiment no-such-thing: there is none of this name; use one of a-cifar10,")
    code, _, err = finish(start("run", "digits-quick", "--scale", "huge"))
    assert code == 2
    assert "quick" in err and "full" in err
    unbalanced = TINY.replace("count = 10", "count = 12")
    (tmp_path / "tiny.toml").write_text(unbalanced)
    code, _, err = finish(start("run", tmp_path / "tiny.toml", "--jobs", "2", "--out", tmp_path / "out"))
    assert code == 1
    assert "12 cannot be balanced over 10 classes; use a multiple." in err
    assert "Traceback" not in err


def test_the_list_and_the_help_are_the_workers() -> None:
    code, out, err = finish(start("list"))
    assert code == 0, err
    assert "digits-quick" in out and "e-mnist" in out
    code, out, _ = finish(start("run", "--help"))
    assert code == 0
    assert "usage: querent benchmark run" in out
