"""Co-training in a report: both networks and what they taught, epoch by epoch, as a table, a picture and verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from worker.benchmark.records import RoundDetail
from worker.benchmark.results import Results
from worker.benchmark.statistics import mean_interval, paired_difference, share_interval
from worker.benchmark.table import Table


@dataclass(frozen=True)
class _Point:
    """One epoch of an arm over all seeds."""

    arm: str
    epoch: int
    found: tuple[dict[str, Any], ...]

    def mean(self, name: str) -> float:
        return mean_interval([float(one[name]) for one in self.found]).value

    @property
    def precision(self) -> float | None:
        taken, right = (sum(one[f"{what}_a"] + one[f"{what}_b"] for one in self.found) for what in ("taken", "right"))
        return right / taken if taken else None

    def row(self) -> tuple[str | int | float | None, ...]:
        both = share_interval([_both(one) for one in self.found])
        single = (self.mean("accuracy_a"), self.mean("accuracy_b"), both.value, both.low, both.high)
        taken = (self.mean("taken_a"), self.mean("taken_b"), self.precision)
        return (self.arm, self.epoch, self.found[0]["source"], len(self.found), *single, *taken)


def co_training(results: Results) -> Table:
    """Return for each arm and epoch how good both networks were, and how much they taught and how much of it is right.

    Of arms with several rounds it is the last one.
    """
    return Table(
        "co_training",
        "Co-training, epoch by epoch",
        "Test accuracy of each network of the pair, mean over seeds, and of both with 95% interval; images that the "
        "first and the second taught in that epoch, and the share of them that is right. Epoch 0 is the pair as it was "
        "fitted to its labels.",
        (
            "arm", "epoch", "source", "seeds", "accuracy_a", "accuracy_b", "accuracy", "low", "high", "taken_a",
            "taken_b", "precision",
        ),
        tuple(point.row() for point in _points(results)),
    )  # fmt: skip


def pair_tables(results: Results) -> list[Table]:
    """Return the table of the epochs, unless no arm has any."""
    return [table for table in (co_training(results),) if table.rows]


def pair_verdicts(results: Results) -> Iterator[str]:
    """Say of each arm how far its pair came from where its own labels had brought it."""
    for arm, pairs in _pairs(results).items():
        before, after = ([_both(pair[place]) for pair in pairs] for place in (0, -1))
        gain = paired_difference(after, before)
        interval = "" if gain.low is None or gain.high is None else f" [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
        epochs = max(len(pair) for pair in pairs) - 1
        yield (
            f"{arm}: each of the two networks from {mean_interval(before).value:.1%} to "
            f"{mean_interval(after).value:.1%} in {epochs} epochs, {100 * gain.value:+.1f} points{interval}."
        )


def draw_pairs(table: Table, axes: Axes, look: Callable[[str], tuple[str, str]]) -> None:
    """Draw the mean accuracy of both networks over epochs, one line an arm in its colour and marker, with 95% bands."""
    at = {column: place for place, column in enumerate(table.columns)}
    for arm in dict.fromkeys(str(row[0]) for row in table.rows):
        colour, marker = look(arm)
        rows = [row for row in table.rows if row[0] == arm]
        epochs, means, lows, highs = (
            np.array([np.nan if row[at[name]] is None else float(row[at[name]] or 0) for row in rows])
            for name in ("epoch", "accuracy", "low", "high")
        )
        axes.plot(epochs, means, color=colour, marker=marker, markersize=4, linewidth=1.3, label=arm)
        axes.fill_between(epochs, lows, highs, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("epochs of co-training")
    axes.set_ylabel("test accuracy of a network")
    axes.legend(fontsize=8)


def _points(results: Results) -> Iterator[_Point]:
    for arm, pairs in _pairs(results).items():
        for epoch in range(max(len(pair) for pair in pairs)):
            yield _Point(arm, epoch, tuple(pair[epoch] for pair in pairs if epoch < len(pair)))


def _pairs(results: Results) -> dict[str, list[list[dict[str, Any]]]]:
    """Return the epochs of the last round of every run, by arm in the experiment's order, then by seed."""
    last: dict[tuple[str, int], RoundDetail] = {}
    for detail in results.details:  # details come by arm, seed and round
        if detail.pair:
            last[detail.arm, detail.seed] = detail
    found = {arm: [detail.pair for (name, _), detail in last.items() if name == arm] for arm in results.curves}
    return {arm: pairs for arm, pairs in found.items() if pairs}


def _both(epoch: dict[str, Any]) -> float:
    return float(epoch["accuracy_a"] + epoch["accuracy_b"]) / 2
