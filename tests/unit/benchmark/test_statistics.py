"""Statistics against values worked out by hand and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from worker.benchmark.statistics import mean_interval, median_labels, paired_difference, share_interval


def test_the_interval_of_a_mean_is_students() -> None:
    found = mean_interval([1.0, 2.0, 3.0])
    # the 97.5% point of t with 2 degrees of freedom is 4.302653; the standard error is 1 / sqrt(3)
    assert (found.value, found.count) == (2.0, 3)
    assert found.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)


def test_the_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).normal(size=12).tolist()
    low, high = stats.t.interval(0.95, 11, np.mean(values), stats.sem(values))
    assert (mean_interval(values).low, mean_interval(values).high) == pytest.approx((low, high))


def test_one_seed_has_no_interval_and_none_has_no_mean() -> None:
    assert (mean_interval([0.5]).low, mean_interval([0.5]).high) == (None, None)
    with pytest.raises(ValueError, match="nothing"):
        mean_interval([])


def test_the_interval_of_shares_stays_between_none_and_all() -> None:
    assert (share_interval([0.0, 1.0]).low, share_interval([0.0, 1.0]).high) == (0.0, 1.0)
    assert share_interval([0.4, 0.5, 0.6]) == mean_interval([0.4, 0.5, 0.6])
    assert share_interval([0.5]) == mean_interval([0.5])


def test_pairing_takes_the_spread_between_seeds_away() -> None:
    found = paired_difference([0.5, 0.7, 0.9], [0.4, 0.6, 0.8])
    assert found.value == pytest.approx(0.1)
    assert found.high - found.low < 1e-9
    with pytest.raises(ValueError, match="zip"):
        paired_difference([1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("needed", "median"),
    [([10, 30, 20], 20), ([10, None, 20], 20), ([10, None, None], math.inf), ([10, 20], 15), ([10, None], math.inf)],
)
def test_a_seed_that_never_reached_the_target_needed_infinitely_many(needed: list[int | None], median: float) -> None:
    assert median_labels(needed) == median
