"""The load benchmark itself, run once and briefly: its people behave as the page does, and its figures add up."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.load import people
from tests.processes import clean_environment

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "static" / "labeling"
PEOPLE, SECONDS = 4, 4


def constant(script: str, name: str) -> float:
    [found] = re.findall(rf"^const {name} = ([0-9_.]+);", (SCRIPTS / script).read_text(), re.MULTILINE)
    return float(found.replace("_", ""))


def test_people_claim_and_renew_as_the_page_does() -> None:
    assert constant("queue.js", "AHEAD") == people.AHEAD
    assert constant("queue.js", "REFILL_BELOW") == people.REFILL_BELOW
    assert constant("queue.js", "FIRST_WAIT_MS") == 1000 * people.FIRST_WAIT_SECONDS
    assert constant("leases.js", "RENEWED_AFTER") == people.RENEWED_AFTER


def test_a_short_run_loses_nothing_and_ends_with_its_figures() -> None:
    sizes = ["--people", str(PEOPLE), "--seconds", str(SECONDS), "--images", "1000", "--more-images", "1500"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.load", *sizes],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    for prefix in ("", "more_images_"):
        found = {name: figures[f"{prefix}{name}"] for name in ("errors", "duplicates", "answers", "presses", "idle")}
        assert (found["errors"], found["duplicates"]) == (0, 0)
        assert found["presses"] == PEOPLE * SECONDS
        assert found["answers"] == found["presses"] - found["idle"]
        assert figures[f"{prefix}trained_to_the_end"] == 1
        assert figures[f"{prefix}answers_per_second"] > 0
        for what in ("answer", "next"):
            times = [figures[f"{prefix}{what}_{side}_p95_ms"] for side in ("server", "client")]
            assert 0 < times[0] < times[1], "the server's time is a part of what the client waits"
            assert figures[f"{prefix}{what}_p95_ms"] == times[0]
    assert figures["next_growth"] > 0
