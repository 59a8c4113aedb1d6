"""What a report says first, for arms that win, lose, cannot be told apart, or were not run to the end."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.benchmark.factories import make_experiment, make_line
from worker.benchmark.records import RoundLine, Wanted
from worker.benchmark.results import Results
from worker.benchmark.verdicts import Standing, headlines, verdicts

ARMS = ("random", "wins", "loses", "wavers")
SHIFTS = {"random": (0, 0, 0), "wins": (0.02, 0.03, 0.025), "loses": (-0.03, -0.02, -0.025), "wavers": (0.05, -0.05, 0)}
LABELS = (10, 20, 30)


def make_results(names: tuple[str, ...] = ARMS, seeds: int = 3, **changes: Any) -> Results:
    tables = [{"name": name, "recipe": {"acquisition": "random"}} for name in names]
    experiment = make_experiment(**{"arms": tables, **changes})
    lines = [
        make_line(arm, seed, labels, 0.5 + labels / 100 + SHIFTS[arm][seed])
        for arm in names
        for seed in range(seeds)
        for labels in LABELS
    ]
    return Results.of(experiment, lines)


def lines_of(results: Results) -> list[RoundLine]:
    return [line for runs in results.curves.values() for run in runs.values() for line in run.values()]


def told(results: Results, wanted: Wanted | None = None) -> dict[str, str]:
    return {line.title: line.text for line in headlines(results, wanted)}


def test_arms_are_sorted_by_what_they_gain_and_stand_by_their_interval() -> None:
    found = verdicts(make_results())
    assert [(one.arm, one.standing) for one in found] == [
        ("wins", Standing.BETTER),
        ("wavers", Standing.LEVEL),
        ("loses", Standing.WORSE),
    ]
    assert found[0].area.value == pytest.approx(0.025)
    assert found[0].losses == ()
    assert (found[2].losses, found[2].budgets) == (LABELS, 3)


def test_a_report_on_fits_that_looked_at_the_test_images_says_so_first() -> None:
    first = headlines(make_results(splits={"validation": "test"}), None)[0]
    assert (first.title, first.tone) == ("No measurement of accuracy", "bad")
    assert "looked at the test images" in first.text
    assert "No measurement of accuracy" not in told(make_results())


def test_one_seed_tells_nothing() -> None:
    results = make_results(seeds=1)
    assert {one.standing for one in verdicts(results)} == {Standing.UNTOLD}
    assert told(results)["Better than random"] == "none"
    assert any("one seed only" in title for title in told(results))


def test_the_first_lines_name_winners_losers_and_the_guard() -> None:
    lines = headlines(make_results(), None)
    assert [(line.title, line.tone) for line in lines][:4] == [
        ("Better than random", "good"),
        ("Not told apart from random", "plain"),
        ("Worse than random", "bad"),
        ("More than one point below random at any budget", "bad"),
    ]
    assert lines[0].text.startswith("wins +2.50 [+1.26, +3.74] points")
    assert lines[2].text.startswith("loses −2.50")
    assert "loses, at 3 of 3 budgets, −2.50 points at" in lines[3].text


def test_what_was_not_run_is_named() -> None:
    rounds = dict.fromkeys((*ARMS, "never"), 3)
    tables = [{"name": name, "recipe": {"acquisition": "random"}} for name in (*ARMS, "never")]
    kept = [line for line in lines_of(make_results(ARMS[:2])) if (line.arm, line.seed, line.labels) != ("wins", 2, 30)]
    results = Results.of(make_experiment(arms=tables), kept)
    assert told(make_results(), Wanted(3, rounds, []))["Run to the end"] == "all 4 arms, 3 seeds each"
    assert told(make_results(), Wanted(5, rounds, []))["Not run"].startswith("random ended 3 of 5 seeds; wins ended")
    assert told(results)["Not run"] == "loses, wavers, never"


def test_an_arm_that_learns_otherwise_is_shown_and_not_judged() -> None:
    arms = [{"name": name, "recipe": {"acquisition": "random"}, "compared": name != "wins"} for name in ARMS]
    results = make_results(arms=arms)
    assert [one.arm for one in verdicts(results)] == ["wavers", "loses"]
    assert told(results)["Learns otherwise than random, so not judged"] == "wins 82.50% at 30 labels"


def test_an_unfinished_run_is_compared_over_the_labels_that_both_cover() -> None:
    whole = make_results(("random", "wins"), seeds=2)
    short = [line for line in lines_of(whole) if line.arm == "random" or line.labels < 30]
    area = Results.of(whole.experiment, short).area_difference("wins")
    assert area is not None
    # steeper curves over more labels would otherwise make the shorter run look worse
    assert area.value == pytest.approx(0.025)
