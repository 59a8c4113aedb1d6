"""Sums over seeds: means with intervals, paired differences, labels to a target, area under a learning curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import stdtrit

from worker.learning.devices import stable_seed

_RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean or a median over ``count`` seeds with its 95% interval; None where there is too little to tell."""

    value: float
    low: float | None
    high: float | None
    count: int


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean with its 95% interval by Student's t; a single value has none.

    Raises:
        ValueError: no values.
    References: Student 1908.
    """
    if not values:
        raise ValueError("there is nothing to take the mean of")
    numbers = np.asarray(values, np.float64)
    mean, count = float(numbers.mean()), len(numbers)
    if count == 1:
        return Interval(mean, None, None, 1)
    half = float(stdtrit(count - 1, 0.975) * numbers.std(ddof=1) / math.sqrt(count))
    return Interval(mean, mean - half, mean + half, count)


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Return the mean of the differences within seeds with its 95% interval.

    Args:
        ours, theirs: one value a seed, seeds in the same order.
    Raises:
        ValueError: other lengths, or no values.
    """
    return mean_interval([one - other for one, other in zip(ours, theirs, strict=True)])


def labels_to_target(labels: Sequence[int], accuracies: Sequence[float], target: float) -> int | None:
    """Return the fewest labels at which a learning curve was at or above the target, None if it never was."""
    reached = [label for label, accuracy in zip(labels, accuracies, strict=True) if accuracy >= target]
    return min(reached, default=None)


def median_labels(needed: Sequence[int | None]) -> float:
    """Return the median over seeds; a seed that never reached the target needed infinitely many.

    With an even number of seeds, the mean of the two in the middle; infinite if one of them is.
    """
    ordered = sorted(math.inf if labels is None else float(labels) for labels in needed)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def labelling_efficiency(baseline: Sequence[int | None], ours: Sequence[int | None]) -> Interval | None:
    """Return how many times our labels the baseline needs for one target: the ratio of medians over seeds.

    Args:
        baseline, ours: labels to the target, one a seed, seeds in the same order; None never reached it.
    Returns:
        The ratio with its 95% interval by a bootstrap over seeds (fixed draws), without bounds for one seed or where a
        resample did not reach the target; None unless both medians are finite.
    References: Efron 1979 (bootstrap, percentile interval).
    """
    theirs, needed = median_labels(baseline), median_labels(ours)
    if math.isinf(theirs) or math.isinf(needed):
        return None
    count = len(ours)
    draws = np.random.default_rng(stable_seed("bootstrap")).integers(0, count, (_RESAMPLES, count))
    tops, bottoms = (
        np.median(np.asarray([math.inf if labels is None else labels for labels in side], np.float64)[draws], axis=1)
        for side in (baseline, ours)
    )
    if count == 1 or not (np.isfinite(tops).all() and np.isfinite(bottoms).all()):
        return Interval(theirs / needed, None, None, count)
    low, high = np.quantile(tops / bottoms, (0.025, 0.975))
    return Interval(theirs / needed, float(low), float(high), count)


def area_under_curve(labels: Sequence[int], accuracies: Sequence[float]) -> float:
    """Return the mean accuracy over the range of labels, by trapezoids; of a single point, its accuracy.

    Raises:
        ValueError: no points, or labels that do not increase.
    """
    if not labels or any(after <= before for before, after in pairwise(labels)):
        raise ValueError("a learning curve needs labels that increase")
    if len(labels) == 1:
        return float(accuracies[0])
    return float(np.trapezoid(accuracies, labels) / (labels[-1] - labels[0]))
