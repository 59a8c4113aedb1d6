"""Tables about classes: recall and ROC area of each, who is taken for whom, and what becomes of a rare one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from worker.benchmark.records import RoundDetail
from worker.benchmark.results import Results
from worker.benchmark.statistics import Interval, mean_interval, paired_difference
from worker.benchmark.table import Row, Table, bounds


def per_class(results: Results) -> Table:
    """Return recall, precision and ROC area of every class after each arm's last round."""
    rows: list[Row] = []
    for arm in results.curves:
        kept = results.last_details(arm)
        for label in range(_class_count(kept)):
            recall = _mean_of([detail.recalls[label] for detail in kept])
            precision = _mean_of([detail.precisions[label] for detail in kept])
            area = _mean_of([detail.roc_aucs[label] for detail in kept if detail.roc_aucs])
            rows.append((arm, label, *bounds(recall), bounds(precision)[0], bounds(area)[0]))
    return Table(
        "per_class",
        "Classes after the last round",
        "Mean over seeds, the recall with 95% interval. The ROC area is the chance that an image of the class is given "
        "more of it than an image of another class.",
        ("arm", "class", "recall", "low", "high", "precision", "roc_auc"),
        tuple(rows),
    )


def confusion(results: Results) -> Table:
    """Return the test images of every true and predicted class after each arm's last round, over all seeds."""
    sums = {arm: confusion_of(results, arm) for arm in results.curves}
    classes = max((len(sum_CC) for sum_CC in sums.values()), default=0)
    rows: list[Row] = [
        (arm, true, *(int(count) for count in counts_C))
        for arm, sum_CC in sums.items()
        for true, counts_C in enumerate(sum_CC)
    ]
    return Table(
        "confusion",
        "Confusion after the last round",
        "Test images by true class (rows) and predicted class (columns), summed over the seeds that came so far.",
        ("arm", "true_class", *(f"as_{label}" for label in range(classes))),
        tuple(rows),
    )


def confusion_of(results: Results, arm: str) -> np.ndarray:
    """Sum the confusions of an arm's last round over seeds: [C, C], rows are true classes; [0, 0] if none was kept."""
    kept = [detail.confusion for detail in results.last_details(arm)]
    return np.array(kept, np.int64).sum(axis=0) if kept else np.zeros((0, 0), np.int64)


def rare_class(results: Results) -> Table:
    """Return the recall of the rare class over labels beside the baseline's, and how many labels it was given."""
    rare = results.experiment.data.rare_class
    rows: list[Row] = []
    if rare is not None:
        for arm in results.curves:
            for labels in results.labels(arm):
                kept = results.details_at(arm, labels)
                recall = _mean_of([detail.recalls[rare] for detail in kept])
                if recall is not None:
                    count = mean_interval([float(detail.labels_per_class[rare]) for detail in kept]).value
                    against = bounds(_recall_difference(results, arm, labels, rare))
                    rows.append((arm, labels, recall.count, *bounds(recall), *against, count))
    baseline = results.experiment.baseline
    return Table(
        "rare_class",
        "The rare class",
        f"Its recall on the test images, mean over seeds with 95% interval; the difference to {baseline}, paired by "
        "seed; and how many labels of the class the arm had.",
        (
            "arm", "labels", "seeds", "recall", "low", "high", "difference", "difference_low", "difference_high",
            "labels_of_it",
        ),
        tuple(rows),
    )  # fmt: skip


def rare_recall_gain(results: Results, arm: str) -> Interval | None:
    """Return how far an arm's recall of the rare class is above the baseline's, mean over the budgets of each seed.

    None unless there is a rare class and both arms measured it with the same seed and labels.
    """
    rare = results.experiment.data.rare_class
    if rare is None or arm not in results.compared():
        return None
    gaps: dict[int, list[float]] = {}
    for labels in results.labels(arm):
        for seed, ours, theirs in _paired_recalls(results, arm, labels, rare):
            gaps.setdefault(seed, []).append(ours - theirs)
    return mean_interval([sum(gap) / len(gap) for gap in gaps.values()]) if gaps else None


def _recall_difference(results: Results, arm: str, labels: int, rare: int) -> Interval | None:
    if arm not in results.compared():
        return None
    pairs = list(_paired_recalls(results, arm, labels, rare))
    return paired_difference([ours for _, ours, _ in pairs], [theirs for _, _, theirs in pairs]) if pairs else None


def _paired_recalls(results: Results, arm: str, labels: int, rare: int) -> Iterator[tuple[int, float, float]]:
    baseline = results.details_at(results.experiment.baseline, labels)
    theirs = {detail.seed: detail.recalls[rare] for detail in baseline}
    for detail in results.details_at(arm, labels):
        mine, other = detail.recalls[rare], theirs.get(detail.seed)
        if mine is not None and other is not None:
            yield detail.seed, mine, other


def _class_count(kept: list[RoundDetail]) -> int:
    return max((len(detail.recalls) for detail in kept), default=0)


def _mean_of(values: list[float | None]) -> Interval | None:
    known = [value for value in values if value is not None]
    return mean_interval(known) if known else None
