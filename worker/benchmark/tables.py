"""From the lines of a benchmark to the tables about its arms: ends, areas, losses, targets, time, curves."""

from __future__ import annotations

import math

import numpy as np

from worker.benchmark.class_tables import confusion, per_class, rare_class
from worker.benchmark.published_tables import calibration, published
from worker.benchmark.records import RoundDetail
from worker.benchmark.results import Results
from worker.benchmark.statistics import mean_interval, median_labels, share_interval
from worker.benchmark.table import Cell, Row, Table, bounds
from worker.learning.curves import area_under_curve, labelling_efficiency, labels_to_target
from worker.learning.devices import stable_seed

BELOW = 0.01  # an arm this far below the baseline at any budget is told of


def all_tables(results: Results) -> list[Table]:
    """Return every table of a report, those that would be empty left out."""
    makers = (
        summary, areas, guard, targets, published, calibration, per_class, confusion, rare_class, times, curves,
    )  # fmt: skip
    return [table for table in (make(results) for make in makers) if table.rows or table.name == "guard"]


def summary(results: Results) -> Table:
    """Return where each arm ended."""
    rows: list[Row] = []
    for arm in results.curves:
        last = results.labels(arm)[-1]
        accuracy = share_interval(results.at(arm, last, lambda line: line.test_accuracy))
        figures = (results.mean_at(arm, last, lambda line: line.test_nll), results.mean_at(arm, last, lambda x: x.ece))
        kept = results.last_details(arm)
        others = (_mean([detail.brier for detail in kept]), _mean([detail.roc_auc for detail in kept]))
        rows.append((arm, accuracy.count, last, *bounds(accuracy), *figures, *others))
    return Table(
        "summary",
        "Where each arm ended",
        "Mean over the seeds that came so far, with 95% interval (Student's t). NLL in nats, expected calibration "
        "error (15 bins), Brier score in 0 to 2, ROC area of one class against the rest, mean over classes.",
        ("arm", "seeds", "labels", "test_accuracy", "low", "high", "test_nll", "ece", "brier", "roc_auc"),
        tuple(rows),
    )


def areas(results: Results) -> Table:
    """Return the area under each arm's learning curve, and its best and worst moment against the baseline."""
    rows: list[Row] = []
    for arm in results.on_budget():
        curves = results.accuracy_curves(arm).values()
        area = mean_interval([area_under_curve(curve, curve.labels_R[0], curve.labels_R[-1]) for curve in curves])
        rows.append((arm, area.count, *bounds(area), *_against(results, arm)))
    baseline = results.experiment.baseline
    return Table(
        "areas",
        "Area under the learning curve",
        f"The mean test accuracy over the labels of a run, mean over seeds with 95% interval. Differences are to "
        f"{baseline}, paired by seed over the labels that both runs cover; best and worst are means at one budget.",
        (
            "arm", "seeds", "area", "low", "high", "difference", "difference_low", "difference_high",
            "best_difference", "best_at_labels", "worst_difference", "worst_at_labels",
        ),
        tuple(rows),
    )  # fmt: skip


def _against(results: Results, arm: str) -> Row:
    differences = results.differences(arm) if arm in results.compared() else {}
    if not differences:
        return (None,) * 7
    best = max(differences, key=lambda labels: differences[labels].value)
    worst = min(differences, key=lambda labels: differences[labels].value)
    area = bounds(results.area_difference(arm))
    return (*area, differences[best].value, best, differences[worst].value, worst)


def guard(results: Results) -> Table:
    """Return every arm and budget at which it is more than one point below the baseline."""
    rows: list[Row] = []
    baseline = results.experiment.baseline
    for arm in results.compared():
        for labels, difference in results.differences(arm).items():
            if difference.value < -BELOW:
                found = results.mean_at(arm, labels, lambda line: line.test_accuracy)
                base = results.mean_at(baseline, labels, lambda line: line.test_accuracy)
                rows.append((arm, labels, found, base, *bounds(difference)))
    return Table(
        "guard",
        f"Losses to {baseline}",
        f"Every arm and budget whose mean accuracy is more than one point below that of {baseline}, over the seeds "
        "that both have.",
        ("arm", "labels", "test_accuracy", "baseline_accuracy", "difference", "low", "high"),
        tuple(rows),
    )


def targets(results: Results) -> Table:
    """Return how many labels each arm needed for each target, and how many times as many the baseline did."""
    rows: list[Row] = []
    for target in results.experiment.targets:
        for arm in results.curves:
            curves = results.accuracy_curves(arm)
            needed = [labels_to_target(curve, target) for curve in curves.values()]
            reached = [labels for labels in needed if labels is not None]
            median = median_labels(needed)
            row: list[Cell] = [target, arm, len(reached), len(needed), None if math.isinf(median) else median]
            row += [min(reached, default=None), max(reached) if len(reached) == len(needed) else None]
            rows.append((*row, *_efficiency(results, arm, target)))
    baseline = results.experiment.baseline
    return Table(
        "targets",
        "Labels to a target",
        "Labels of the first round at or above the target; median over seeds, empty if half of them never were. "
        f"Efficiency: labels that {baseline} needs for one of ours, from mean curves read between rounds, with 95% "
        f"bootstrap interval over seeds; at least so much where {baseline} never got there.",
        (
            "target", "arm", "reached", "seeds", "median_labels", "least", "most", "efficiency", "low", "high",
            "is_least", "share_reached",
        ),
        tuple(rows),
    )  # fmt: skip


def _efficiency(results: Results, arm: str, target: float) -> Row:
    nothing = (None,) * 5
    if arm not in results.compared():
        return nothing
    ours, theirs = results.accuracy_curves(arm), results.accuracy_curves(results.experiment.baseline)
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return nothing
    generator = np.random.default_rng(stable_seed("bootstrap"))
    sides = [[side[seed] for seed in seeds] for side in (ours, theirs)]
    found = labelling_efficiency(sides[0], sides[1], target, generator=generator)
    if found is None:
        return nothing
    return found.ratio, found.low, found.high, "yes" if found.is_least else "no", found.share_reached


def times(results: Results) -> Table:
    """Return what a round of each arm takes on the clock, by stage."""
    rows: list[Row] = []
    for arm, seeds in results.curves.items():
        lines = [line for run in seeds.values() for line in run.values()]
        parts = [
            _mean([line.seconds_fit for line in lines]),
            _mean([detail.seconds_evaluate for detail in _details_of(results, arm)]) or 0.0,
            _mean([line.seconds_score for line in lines]),
            _mean([line.seconds_select for line in lines]),
        ]
        whole = sum(part for part in parts if part is not None)
        rows.append((arm, len(lines), *parts, whole, whole * len(lines) / len(seeds)))
    return Table(
        "times",
        "Wall time by stage",
        "Mean seconds of a round, and of a whole run, on one core: fitting, evaluating on the test images, scoring the "
        "pool and selecting the batch.",
        ("arm", "rounds", "fit", "evaluate", "score", "select", "round", "run"),
        tuple(rows),
    )


def curves(results: Results) -> Table:
    """Return every learning curve, with its paired difference to the baseline."""
    rows: list[Row] = []
    figures = (lambda line: line.test_nll, lambda line: line.ece, lambda line: line.mean_entropy)
    for arm in results.curves:
        differences = results.differences(arm) if arm in results.compared() else {}
        for labels in results.labels(arm):
            accuracy = share_interval(results.at(arm, labels, lambda line: line.test_accuracy))
            others = [results.mean_at(arm, labels, figure) for figure in figures]
            pseudo = results.mean_at(arm, labels, lambda line: line.pseudo_labels)
            row = (arm, labels, pseudo, accuracy.count, *bounds(accuracy), *others)
            rows.append((*row, *bounds(differences.get(labels))))
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


def _details_of(results: Results, arm: str) -> list[RoundDetail]:
    return [detail for labels in results.labels(arm) for detail in results.details_at(arm, labels)]


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
