"""Sums over seeds: means with intervals, paired differences, medians. Curves are for ``worker.learning.curves``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit


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


def share_interval(shares: Sequence[float]) -> Interval:
    """Return the mean of shares with its 95% interval, which stays between 0 and 1 as shares do.

    Raises:
        ValueError: no shares.
    """
    found = mean_interval(shares)
    if found.low is None or found.high is None:
        return found
    return Interval(found.value, max(0.0, found.low), min(1.0, found.high), found.count)


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Return the mean of the differences within seeds with its 95% interval.

    Args:
        ours, theirs: one value a seed, seeds in the same order.
    Raises:
        ValueError: other lengths, or no values.
    """
    return mean_interval([one - other for one, other in zip(ours, theirs, strict=True)])


def median_labels(needed: Sequence[float | None]) -> float:
    """Return the median over seeds; a seed that never reached the target needed infinitely many.

    With an even number of seeds, the mean of the two in the middle; infinite if one of them is.
    """
    ordered = sorted(math.inf if labels is None else labels for labels in needed)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
