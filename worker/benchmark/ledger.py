"""What models labelled in a benchmark: how right it was, and whether it helped beside the same arm without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from worker.benchmark.records import RoundDetail, RoundLine
from worker.benchmark.results import Results
from worker.benchmark.statistics import Interval, mean_interval, share_interval
from worker.benchmark.table import Table


def ledger_tables(results: Results) -> list[Table]:
    """Return the tables on pseudo-labels, those that would be empty left out."""
    return [table for table in (ledger(results), beside(results)) if table.rows]


def ledger(results: Results) -> Table:
    """Return for each arm and round how many pseudo-labels were learned from, and which share of them is right."""
    rows = []
    for (arm, number), found in sorted(_by_round(results).items(), key=lambda one: one[0]):
        lines, details = [line for line, _ in found], [detail for _, detail in found]
        labels, pseudo = (_mean([getattr(line, name) for line in lines]) for name in ("labels", "pseudo_labels"))
        right = share_interval([detail.pseudo_right / detail.pseudo_labels for detail in details])
        accuracy = _mean([line.test_accuracy for line in lines])
        rows.append((arm, number, labels, pseudo, right.count, right.value, right.low, right.high, accuracy))
    return Table(
        "ledger",
        "Pseudo-labels",
        "What models had labelled when a round was fitted, and the share of it that is the truth, mean over seeds with "
        "95% interval. Rounds and seeds without any are left out.",
        ("arm", "round", "labels", "pseudo_labels", "seeds", "precision", "low", "high", "test_accuracy"),
        tuple(rows),
    )


def beside(results: Results) -> Table:
    """Return how arms did beside those that they name, at as many human labels."""
    rows = []
    for arm, other in _pairs(results):
        for labels, difference in results.differences(arm, other).items():
            ours, theirs = (_mean(results.at(one, labels, _accuracy)) for one in (arm, other))
            pseudo = _mean(results.at(arm, labels, lambda line: line.pseudo_labels))
            rows.append((arm, other, labels, pseudo, ours, theirs, difference.value, difference.low, difference.high))
    return Table(
        "beside",
        "With and without",
        "Arms beside the one that each is held against, at as many human labels; differences paired by seed, with 95% "
        "interval.",
        (
            "arm", "against", "labels", "pseudo_labels", "test_accuracy", "other_accuracy", "difference", "low", "high",
        ),
        tuple(rows),
    )  # fmt: skip


def ledger_verdicts(results: Results) -> Iterator[str]:
    """Say of each arm that is held against another how it ended, and how right its pseudo-labels were."""
    for arm, other in _pairs(results):
        differences = results.differences(arm, other)
        if differences:
            labels = max(differences)
            yield f"{arm} is {_told(differences[labels], other)} at {labels} human labels{_precision(results, arm)}."


def _told(difference: Interval, other: str) -> str:
    points = f"{100 * difference.value:+.2f} points"
    if difference.low is None or difference.high is None:
        return f"not told apart from {other}: {points}"
    verdict = "better than" if difference.low > 0 else "worse than" if difference.high < 0 else "not told apart from"
    return f"{verdict} {other}: {points} [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]"


def _precision(results: Results, arm: str) -> str:
    details = [detail for detail in results.details if detail.arm == arm]
    last = {detail.seed: detail for detail in details if detail.pseudo_labels}  # details come by round
    if not last and any(detail.pair for detail in details):
        return ""  # what a pair teaches while it is fitted is told with its epochs
    if not last:
        return "; it had no pseudo-labels"
    right, all_of_them = (
        sum(getattr(one, name) for one in last.values()) for name in ("pseudo_right", "pseudo_labels")
    )
    return f"; of its {all_of_them / len(last):,.0f} pseudo-labels {right / all_of_them:.2%} are right"


def _pairs(results: Results) -> list[tuple[str, str]]:
    named = [(arm.name, arm.against) for arm in results.experiment.arms]
    return [(arm, other) for arm, other in named if other is not None and {arm, other} <= results.curves.keys()]


def _by_round(results: Results) -> dict[tuple[str, int], list[tuple[RoundLine, RoundDetail]]]:
    lines = {line.key: line for line in results.lines}
    found: dict[tuple[str, int], list[tuple[RoundLine, RoundDetail]]] = {}
    for detail in results.details:
        if detail.pseudo_labels and detail.key in lines:
            found.setdefault((detail.arm, detail.round), []).append((lines[detail.key], detail))
    return found


def _mean(values: Sequence[float]) -> float:
    return mean_interval(values).value


def _accuracy(line: RoundLine) -> float:
    return line.test_accuracy
