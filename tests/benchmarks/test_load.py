"""The load benchmark itself, run once and briefly: its people behave as the page does, and its figures add up."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.load import people
from tests.benchmarks.load.label_studio import ratios
from tests.benchmarks.load.scene import growth
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
    sizes = ["--people", str(PEOPLE), "--seconds", str(SECONDS), "--images", "1000", "--more-images", "0"]
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
    assert (figures["errors"], figures["duplicates"]) == (0, 0)
    assert figures["presses"] == PEOPLE * SECONDS
    assert figures["answers"] == figures["presses"] - figures["idle"]
    assert figures["trained_to_the_end"] == 1
    assert figures["answers_per_second"] > 0
    for what in ("answer", "next"):
        server, client = (figures[f"{what}_{side}_p95_ms"] for side in ("server", "client"))
        assert 0 < server < client, "the server's time is a part of what the client waits"
        assert figures[f"{what}_p95_ms"] == server


def test_growth_is_how_many_times_longer_the_next_query_takes() -> None:
    assert growth({"next_p95_ms": 20.0}, {"next_p95_ms": 25.0}) == 1.25


def test_ratios_say_how_many_times_longer_others_take_and_how_many_fewer_answers_they_get() -> None:
    ours = {f"{what}_client_p{percent}_ms": 20.0 for what in ("next", "answer") for percent in (50, 95)}
    theirs = {f"label_studio_{what}_p{percent}_ms": 500.0 for what in ("next", "submit") for percent in (50, 95)}
    found = ratios({**ours, "answers_per_second": 50.0}, {**theirs, "label_studio_answers_per_second": 5.0})
    assert found["next_p95_ratio"] == found["answer_p50_ratio"] == 25
    assert found["answers_per_second_ratio"] == 10
