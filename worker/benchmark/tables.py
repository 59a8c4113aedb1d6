"""From the lines of a benchmark to its tables: what stands in the CSV files and in the report."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.benchmark.records import RoundDetail, RoundLine
from worker.benchmark.results import Curve, Results
from worker.benchmark.statistics import (
    area_under_curve,
    labelling_efficiency,
    labels_to_target,
    mean_interval,
    median_labels,
    paired_difference,
)

BELOW = 0.01  # an arm this far below the baseline at any budget is told of

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """One table: ``name`` is its file's; cells hold plain numbers, shares from 0 to 1."""

    name: str
    title: str
    explanation: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def write(self, folder: Path) -> None:
        """Write the table as a CSV file; what is not known is left empty."""
        with (folder / f"{self.name}.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self.columns)
            writer.writerows(self.rows)


def all_tables(results: Results) -> list[Table]:
    """Return every table of a report, those that would be empty left out."""
    makers = (summary, guard, targets, published, times, curves, rare_class, confusion)
    return [table for table in (make(results) for make in makers) if table.rows or table.name == "guard"]


def summary(results: Results) -> Table:
    """Return where each arm ended, its area, and its best and worst moment against the baseline."""
    rows: list[tuple[Cell, ...]] = []
    for arm in results.curves:
        last = results.labels(arm)[-1]
        accuracy = mean_interval(results.at(arm, last, lambda line: line.test_accuracy))
        areas = {seed: _area(curve) for seed, curve in results.curves[arm].items()}
        area = mean_interval(list(areas.values()))
        row: list[Cell] = [arm, accuracy.count, last, accuracy.value, accuracy.low, accuracy.high]
        row += [mean_interval(results.at(arm, last, figure)).value for figure in (_nll, _ece)]
        rows.append((*row, area.value, area.low, area.high, *_against(results, arm, areas)))
    return Table(
        "summary",
        "Where each arm ended",
        f"Mean over seeds with 95% interval (Student's t). The area is the mean accuracy over the budget. Differences "
        f"are to {results.experiment.baseline}, paired by seed.",
        (
            "arm", "seeds", "labels", "test_accuracy", "low", "high", "test_nll", "ece", "area", "area_low",
            "area_high", "area_difference", "difference_low", "difference_high", "best_difference", "best_at_labels",
            "worst_difference", "worst_at_labels",
        ),
        tuple(rows),
    )  # fmt: skip


def _against(results: Results, arm: str, areas: dict[int, float]) -> tuple[Cell, ...]:
    if arm not in results.compared():
        return (None,) * 7
    theirs = {seed: _area(curve) for seed, curve in results.curves[results.experiment.baseline].items()}
    seeds = sorted(areas.keys() & theirs.keys())
    differences = results.differences(arm)
    if not seeds or not differences:
        return (None,) * 7
    area = paired_difference([areas[seed] for seed in seeds], [theirs[seed] for seed in seeds])
    best = max(differences, key=lambda labels: differences[labels].value)
    worst = min(differences, key=lambda labels: differences[labels].value)
    return area.value, area.low, area.high, differences[best].value, best, differences[worst].value, worst


def guard(results: Results) -> Table:
    """Return every arm and budget at which it is more than one point below the baseline."""
    rows = []
    for arm in results.compared():
        for labels, difference in results.differences(arm).items():
            if difference.value < -BELOW:
                found = mean_interval(results.at(arm, labels, lambda line: line.test_accuracy)).value
                base = mean_interval(
                    results.at(results.experiment.baseline, labels, lambda line: line.test_accuracy)
                ).value
                rows.append((arm, labels, found, base, difference.value, difference.low, difference.high))
    return Table(
        "guard",
        f"Losses to {results.experiment.baseline}",
        f"Every arm and budget whose mean accuracy is more than one point below that of {results.experiment.baseline}.",
        ("arm", "labels", "test_accuracy", "baseline_accuracy", "difference", "low", "high"),
        tuple(rows),
    )


def targets(results: Results) -> Table:
    """Return how many labels each arm needed for each target, and how many times as many the baseline did."""
    rows: list[tuple[Cell, ...]] = []
    for target in results.experiment.targets:
        for arm in results.curves:
            needed = _needed(results, arm, target)
            reached = [labels for labels in needed.values() if labels is not None]
            median = median_labels(list(needed.values()))
            row: list[Cell] = [target, arm, len(reached), len(needed), None if math.isinf(median) else median]
            row += [min(reached, default=None), max(reached) if len(reached) == len(needed) else None]
            rows.append((*row, *_efficiency(results, arm, needed, target)))
    return Table(
        "targets",
        "Labels to a target",
        "Fewest labels at which a run was at or above the target; median over seeds, empty if half of them never were. "
        f"Efficiency: labels that {results.experiment.baseline} needs for one of ours, with 95% bootstrap interval.",
        ("target", "arm", "reached", "seeds", "median_labels", "least", "most", "efficiency", "low", "high"),
        tuple(rows),
    )


def _needed(results: Results, arm: str, target: float) -> dict[int, int | None]:
    return {seed: labels_to_target(*_points(curve), target) for seed, curve in results.curves[arm].items()}


def _efficiency(results: Results, arm: str, needed: dict[int, int | None], target: float) -> tuple[Cell, ...]:
    if arm not in results.compared():
        return None, None, None
    theirs = _needed(results, results.experiment.baseline, target)
    seeds = sorted(needed.keys() & theirs.keys())
    found = labelling_efficiency([theirs[seed] for seed in seeds], [needed[seed] for seed in seeds]) if seeds else None
    return (None, None, None) if found is None else (found.value, found.low, found.high)


def published(results: Results) -> Table:
    """Return every published figure beside ours at the nearest number of labels."""
    rows = []
    for series in results.experiment.published:
        for labels, value in zip(series.labels, series.values, strict=True):
            row: list[Cell] = [series.series, series.source, series.metric.value, labels, value, series.arm]
            if series.arm is None or series.arm not in results.curves:
                rows.append((*row, None, None, None, None, None))
                continue
            nearest = min(results.labels(series.arm), key=lambda ours, wanted=labels: (abs(ours - wanted), ours))  # type: ignore[misc]
            metric = series.metric.value
            found = mean_interval(results.at(series.arm, nearest, lambda line, name=metric: getattr(line, name)))  # type: ignore[misc]
            rows.append((*row, nearest, found.value, found.low, found.high, found.value - value))
    return Table(
        "published",
        "Published figures beside ours",
        "Ours at the nearest number of labels, mean over seeds with 95% interval.",
        (
            "series", "source", "metric", "labels", "published", "our_arm", "our_labels", "ours", "low", "high",
            "difference",
        ),
        tuple(rows),
    )  # fmt: skip


def times(results: Results) -> Table:
    """Return what a round of each arm takes on the clock."""
    rows = []
    for arm, seeds in results.curves.items():
        lines = [line for curve in seeds.values() for line in curve.values()]
        parts = [sum(part) / len(lines) for part in zip(*map(_seconds, lines), strict=True)]
        rows.append((arm, len(lines), *parts, sum(parts), sum(parts) * len(lines) / len(seeds)))
    return Table(
        "times",
        "Wall time",
        "Mean seconds of a round, and seconds of a whole run, on one core; evaluating is left out.",
        ("arm", "rounds", "fit", "score", "select", "round", "run"),
        tuple(rows),
    )


def curves(results: Results) -> Table:
    """Return every learning curve, with its paired difference to the baseline."""
    rows = []
    for arm in results.curves:
        differences = results.differences(arm) if arm in results.compared() else {}
        for labels in results.labels(arm):
            accuracy = mean_interval(results.at(arm, labels, lambda line: line.test_accuracy))
            others = [mean_interval(results.at(arm, labels, figure)).value for figure in (_nll, _ece, _entropy)]
            pseudo = mean_interval(results.at(arm, labels, lambda line: line.pseudo_labels)).value
            other = differences.get(labels)
            against = (None, None, None) if other is None else (other.value, other.low, other.high)
            row = (arm, labels, pseudo, accuracy.count, accuracy.value, accuracy.low, accuracy.high)
            rows.append((*row, *others, *against))
    return Table(
        "curves",
        "Learning curves",
        f"Mean over seeds with 95% interval; the difference is to {results.experiment.baseline}, paired by seed.",
        (
            "arm", "labels", "pseudo_labels", "seeds", "test_accuracy", "low", "high", "test_nll", "ece",
            "mean_entropy", "difference", "difference_low", "difference_high",
        ),
        tuple(rows),
    )  # fmt: skip


def rare_class(results: Results) -> Table:
    """Return the recall of the rare class over labels, and how many of its images were labelled."""
    rare = results.experiment.data.rare_class
    rows = []
    if rare is not None:
        found: dict[tuple[str, int], list[tuple[float, int]]] = {}
        for detail in results.details:
            recall = detail.recalls[rare]
            if recall is not None:
                at = (detail.arm, sum(detail.labels_per_class))
                found.setdefault(at, []).append((recall, detail.labels_per_class[rare]))
        for (arm, labels), pairs in sorted(found.items()):
            recall_of = mean_interval([recall for recall, _ in pairs])
            count = mean_interval([float(count) for _, count in pairs]).value
            rows.append((arm, labels, recall_of.count, recall_of.value, recall_of.low, recall_of.high, count))
    return Table(
        "rare_class",
        "The rare class",
        "Its recall on the test images, mean over seeds with 95% interval, and how many labels it was given.",
        ("arm", "labels", "seeds", "recall", "low", "high", "labels_of_it"),
        tuple(rows),
    )


def confusion(results: Results) -> Table:
    """Return the test images of every true and predicted class after each arm's last round, over all seeds."""
    last: dict[tuple[str, int], RoundDetail] = {}
    for detail in results.details:
        kept = last.get((detail.arm, detail.seed))
        if kept is None or detail.round > kept.round:
            last[detail.arm, detail.seed] = detail
    cells: dict[tuple[str, int, int], int] = {}
    for detail in last.values():
        for true, row in enumerate(detail.confusion):
            for predicted, count in enumerate(row):
                cells[detail.arm, true, predicted] = cells.get((detail.arm, true, predicted), 0) + count
    return Table(
        "confusion",
        "Confusion after the last round",
        "Test images by true and predicted class, over all seeds.",
        ("arm", "true_class", "predicted_class", "images"),
        tuple((*where, count) for where, count in sorted(cells.items())),
    )


def _points(curve: Curve) -> tuple[Sequence[int], Sequence[float]]:
    labels = sorted(curve)
    return labels, [curve[count].test_accuracy for count in labels]


def _area(curve: Curve) -> float:
    return area_under_curve(*_points(curve))


def _seconds(line: RoundLine) -> tuple[float, float, float]:
    return line.seconds_fit, line.seconds_score, line.seconds_select


def _nll(line: RoundLine) -> float:
    return line.test_nll


def _ece(line: RoundLine) -> float:
    return line.ece


def _entropy(line: RoundLine) -> float:
    return line.mean_entropy
