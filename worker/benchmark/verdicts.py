"""What a report says first: which arms beat the baseline and by how much, which lose, and what was not run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from worker.benchmark.class_tables import rare_recall_gain
from worker.benchmark.records import Wanted
from worker.benchmark.results import Results
from worker.benchmark.statistics import Interval
from worker.benchmark.tables import BELOW


class Standing(StrEnum):
    """How an arm's area stands to the baseline's, by the 95% interval of their difference over seeds."""

    BETTER = "better"
    LEVEL = "not told apart"
    WORSE = "worse"
    UNTOLD = "one seed"


@dataclass(frozen=True)
class Moment:
    """A budget, and the difference to the baseline there."""

    labels: int
    difference: float


@dataclass(frozen=True)
class Verdict:
    """One arm against the baseline; ``losses`` are the budgets at which its mean is more than one point below."""

    arm: str
    standing: Standing
    area: Interval
    last: Moment
    best: Moment
    worst: Moment
    losses: tuple[int, ...]
    budgets: int


@dataclass(frozen=True)
class Headline:
    """A line of the first screen; ``tone`` is good, bad or plain."""

    title: str
    text: str
    tone: str = "plain"


def verdicts(results: Results) -> list[Verdict]:
    """Return every arm that shares budgets and seeds with the baseline, the best first."""
    found = []
    for arm in results.compared():
        area, differences = results.area_difference(arm), results.differences(arm)
        if area is None or not differences:
            continue
        moments = [Moment(labels, difference.value) for labels, difference in differences.items()]
        found.append(
            Verdict(
                arm,
                standing_of(area),
                area,
                moments[-1],
                max(moments, key=lambda moment: moment.difference),
                min(moments, key=lambda moment: moment.difference),
                tuple(moment.labels for moment in moments if moment.difference < -BELOW),
                len(moments),
            )
        )
    return sorted(found, key=lambda verdict: -verdict.area.value)


def standing_of(difference: Interval) -> Standing:
    """Return which side of zero an interval lies on; without an interval nothing can be told."""
    if difference.low is None or difference.high is None:
        return Standing.UNTOLD
    if difference.low > 0:
        return Standing.BETTER
    return Standing.WORSE if difference.high < 0 else Standing.LEVEL


def headlines(results: Results, wanted: Wanted | None) -> list[Headline]:
    """Return the lines of the first screen: a fault, wins, losses, the guard, the rare class, what was not run."""
    found = verdicts(results)
    lines = [*_watched(results), *_standings(found, results.experiment.baseline)]
    lines += _guard(found, results.experiment.baseline)
    return [*lines, *_rare(results), *_others(results), *_missing(results, wanted)]


def points(share: float) -> str:
    """Return a difference of shares in points, with its sign."""
    return f"{100 * share:+.2f}".replace("-", "−")


def _watched(results: Results) -> Iterator[Headline]:
    if results.experiment.splits.validation == "test":
        told = (
            "every fit looked at the test images to decide when to stop and which weights to keep, so accuracies are "
            "the best of many looks, and the labels of the test images are not counted"
        )
        yield Headline("No measurement of accuracy", told, "bad")


def _standings(found: list[Verdict], baseline: str) -> Iterator[Headline]:
    titles = {
        Standing.BETTER: (f"Better than {baseline}", "good"),
        Standing.LEVEL: (f"Not told apart from {baseline}", "plain"),
        Standing.WORSE: (f"Worse than {baseline}", "bad"),
        Standing.UNTOLD: (f"Against {baseline}, one seed only, so by chance or not cannot be told", "plain"),
    }
    if found and not any(verdict.standing is Standing.BETTER for verdict in found):
        yield Headline(f"Better than {baseline}", "none")
    for standing, (title, tone) in titles.items():
        told = [f"{verdict.arm} {_interval(verdict.area)}" for verdict in found if verdict.standing is standing]
        if told:
            yield Headline(title, f"{'; '.join(told)} points on average over the budget", tone)


def _guard(found: list[Verdict], baseline: str) -> Iterator[Headline]:
    losers = [verdict for verdict in found if verdict.losses]
    title = f"More than one point below {baseline} at any budget"
    if losers:
        told = (
            f"{loser.arm}, at {len(loser.losses)} of {loser.budgets} budgets, {points(loser.worst.difference)} points "
            f"at {loser.worst.labels:,} labels"
            for loser in losers
        )
        yield Headline(title, "; ".join(told), "bad")
    elif found:
        yield Headline(title, "no arm", "good")


def _rare(results: Results) -> Iterator[Headline]:
    gains = [(arm, gain) for arm in results.compared() if (gain := rare_recall_gain(results, arm)) is not None]
    if gains:
        told = "; ".join(f"{arm} {_interval(gain)}, {standing_of(gain)}" for arm, gain in gains)
        title = f"Recall of the rare class {results.experiment.data.rare_class} against {results.experiment.baseline}"
        yield Headline(title, f"{told} (points, on average over the budget)")


def _others(results: Results) -> Iterator[Headline]:
    arms = [arm for arm in results.on_budget() if not results.experiment.arm(arm).compared]
    if arms:
        last = {arm: results.labels(arm)[-1] for arm in arms}
        ends = {arm: results.mean_at(arm, last[arm], lambda line: line.test_accuracy) for arm in arms}
        told = "; ".join(f"{arm} {ends[arm]:.2%} at {last[arm]:,} labels" for arm in arms)
        yield Headline(f"Learns otherwise than {results.experiment.baseline}, so not judged", told)


def _missing(results: Results, wanted: Wanted | None) -> Iterator[Headline]:
    arms = [arm.name for arm in results.experiment.arms]
    if wanted is None:
        missing = [arm for arm in arms if arm not in results.curves]
        seeds = "; ".join(f"{arm} {len(found)}" for arm, found in results.curves.items())
        yield Headline("Seeds with results", seeds)
        if missing:
            yield Headline("Not run", ", ".join(missing), "bad")
        return
    told = []
    for arm in arms:
        runs = results.curves.get(arm, {})
        ended = sum(max(line.round for line in run.values()) >= wanted.rounds.get(arm, 1) for run in runs.values())
        if not runs:
            told.append(arm)
        elif ended < wanted.seeds:
            started = len(runs) - ended
            told.append(f"{arm} ended {ended} of {wanted.seeds} seeds" + (f", {started} under way" if started else ""))
    if told:
        yield Headline("Not run", "; ".join(told), "bad")
    else:
        yield Headline("Run to the end", f"all {len(arms)} arms, {wanted.seeds} seeds each")


def _interval(found: Interval) -> str:
    bounds = "" if found.low is None or found.high is None else f" [{points(found.low)}, {points(found.high)}]"
    return f"{points(found.value)}{bounds}"
