"""What learning curves say: area, labels to a target, efficiency against random, entropy of a pool. Numpy, no torch.

A curve is the test accuracy (or any other figure where more is better) of one run by its number of human labels. An arm
is one curve a seed. All arms of an experiment share their seeds, so intervals are over pairs of runs.

Conventions, which reports follow too:

- **Area**: trapezoids over human labels, divided by their range, so that it is a mean accuracy. Two runs are compared
  over the labels that both cover.
- **Labels to a target**: those of the first round at or above it, as in published tables; what happens later does not
  count. Several runs are summed up by their median, a run that never gets there counting as infinite.
- **Efficiency**: from the mean curves over seeds, read as straight lines between rounds, so that a run that misses the
  target is not left out and the size of a batch does not round the ratio. Where random never gets there, its last
  number of labels stands in, and the ratio is at least that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from worker.learning.errors import NotFiniteError, ShapeError
from worker.learning.evaluation import entropies


@dataclass(frozen=True)
class Curve:
    """``accuracies_R`` after R rounds, at ``labels_R`` human labels each, which only grow."""

    labels_R: np.ndarray
    accuracies_R: np.ndarray

    def __post_init__(self) -> None:
        if self.labels_R.ndim != 1 or not len(self.labels_R):
            raise ShapeError("labels_R", ("R >= 1",), self.labels_R.shape)
        if self.accuracies_R.shape != self.labels_R.shape:
            raise ShapeError("accuracies_R", self.labels_R.shape, self.accuracies_R.shape)
        if not (np.isfinite(self.labels_R).all() and np.isfinite(self.accuracies_R).all()):
            raise NotFiniteError("a curve has a value that is NaN or infinite")
        if (np.diff(self.labels_R) <= 0).any():
            raise ValueError("labels_R: labels have to grow from round to round")


@dataclass(frozen=True)
class Efficiency:
    """Labels that random needs over labels that an arm needs for one accuracy: above 1 the arm is better.

    ``low`` and ``high`` bound it with 95% confidence over seeds; one seed alone has no bounds. ``is_least`` says that
    random never got there, so the ratio is at least this; ``share_reached`` is the share of the resamples in which the
    arm got there, and low and high are over those.
    """

    ratio: float
    low: float | None
    high: float | None
    is_least: bool
    share_reached: float


def area_under_curve(curve: Curve, first: float, last: float) -> float:
    """Mean accuracy from ``first`` to ``last`` labels, straight between rounds.

    Args:
        curve: one run.
        first: labels where the area begins.
        last: labels where it ends.
    Returns:
        a mean in the unit of the accuracies, so that budgets of other lengths compare; with first equal to last, the
        accuracy there.
    Raises:
        ValueError: the curve does not cover first to last, or they are not in this order.
    """
    labels_R = curve.labels_R.astype(np.float64)
    if not labels_R[0] <= first <= last <= labels_R[-1]:
        raise ValueError(f"{first:g} to {last:g} labels: the curve goes from {labels_R[0]:g} to {labels_R[-1]:g}")
    if first == last:
        return float(np.interp(first, labels_R, curve.accuracies_R))
    inside = (labels_R > first) & (labels_R < last)
    at = np.concatenate([[first], labels_R[inside], [last]])
    return float(np.trapezoid(np.interp(at, labels_R, curve.accuracies_R), at) / (last - first))


def labels_to_target(curve: Curve, target: float, *, between_rounds: bool = False) -> float | None:
    """Fewest labels at which the accuracy is at least ``target``; None if it never is.

    Args:
        curve: one run.
        target: accuracy to reach.
        between_rounds: read the curve as straight between rounds; otherwise only rounds count, as in the published
            tables.
    """
    reached_R = curve.accuracies_R >= target
    if not reached_R.any():
        return None
    first = int(reached_R.argmax())
    if not between_rounds or first == 0:
        return float(curve.labels_R[first])
    low, high = curve.accuracies_R[first - 1], curve.accuracies_R[first]
    before, after = curve.labels_R[first - 1], curve.labels_R[first]
    return float(before + (after - before) * (target - low) / (high - low))


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Mean accuracy of several runs over the labels that all of them cover, straight between rounds.

    Raises:
        ValueError: no curves, or none of their labels in common.
    """
    labels_R, accuracies_SR = _side_by_side(curves)
    return Curve(labels_R, accuracies_SR.mean(axis=0))


def labelling_efficiency(
    arm: Sequence[Curve],
    random: Sequence[Curve],
    target: float,
    *,
    generator: np.random.Generator,
    resamples: int = 2000,
) -> Efficiency | None:
    """Compare an arm with random at one accuracy, with a bootstrap interval over seeds.

    The mean curves are compared, so a run that misses the target is not left out. Seeds are drawn with replacement, a
    run of the arm together with the run of random that has its seed.

    Args:
        arm: one curve a seed.
        random: the curves of the same seeds, in the same order.
        target: accuracy to reach.
        generator: source of the resamples.
        resamples: how many.
    Returns:
        the efficiency, or None if the arm's mean curve never gets there.
    Raises:
        ValueError: arms of uneven length, or without curves.
    References: Beck et al. 2021 (DISTIL's labelling efficiency); Efron 1979 (percentile bootstrap).
    """
    count = len(arm)
    if count != len(random) or not arm:
        raise ValueError(f"{count} runs cannot be paired with {len(random)} of random")
    draws = generator.integers(0, count, (resamples if count > 1 else 0, count))
    # how often each seed counts: once in the first row, as drawn in the others
    weights_BS = np.array([np.ones(count), *(np.bincount(seeds, minlength=count) for seeds in draws)]) / count
    ours_B, theirs_B = (_labels_needed(weights_BS, runs, target) for runs in (arm, random))
    if np.isnan(ours_B[0]):
        return None
    is_least = bool(np.isnan(theirs_B[0]))
    last = min(curve.labels_R[-1] for curve in random)
    ratios_B = np.where(np.isnan(theirs_B), last, theirs_B) / ours_B
    if count == 1:
        return Efficiency(float(ratios_B[0]), None, None, is_least, 1.0)
    drawn = ratios_B[1:][~np.isnan(ratios_B[1:])]
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (None, None)
    share = len(drawn) / resamples if resamples else 1.0
    return Efficiency(float(ratios_B[0]), _float(low), _float(high), is_least, share)


def mean_pool_entropy(chunks: Iterable[np.ndarray]) -> float:
    """Mean entropy of the predictions over a pool, in nats, chunk by chunk.

    Args:
        chunks: log_probs_NC of the mean prediction, each chunk with as many images as it likes.
    Returns:
        a mean in [0, log C].
    Raises:
        ValueError: no images.
        NotFiniteError: a log-probability that is NaN or +inf.
    """
    total, count = 0.0, 0
    for log_probs_NC in chunks:
        if np.isnan(log_probs_NC).any() or np.isposinf(log_probs_NC).any():
            raise NotFiniteError("log_probs_NC: a log-probability is NaN or infinite")
        total += float(entropies(log_probs_NC).sum())
        count += len(log_probs_NC)
    if not count:
        raise ValueError("there are no images")
    return total / count


def _side_by_side(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Read S curves at the labels that all of them cover: labels_R, accuracies_SR."""
    if not curves:
        raise ValueError("there are no curves")
    first = max(curve.labels_R[0] for curve in curves)
    last = min(curve.labels_R[-1] for curve in curves)
    if first > last:
        raise ValueError(f"the curves have no labels in common: one begins at {first:g}, one ends at {last:g}")
    everything = np.unique(np.concatenate([curve.labels_R for curve in curves]))
    labels_R = everything[(everything >= first) & (everything <= last)]
    return labels_R, np.array([np.interp(labels_R, each.labels_R, each.accuracies_R) for each in curves])


def _labels_needed(weights_BS: np.ndarray, curves: Sequence[Curve], target: float) -> np.ndarray:
    """Labels at which each weighted mean of the curves first reaches the target, straight between rounds; else NaN."""
    labels_R, accuracies_SR = _side_by_side(curves)
    means = (Curve(labels_R, means_R) for means_R in weights_BS @ accuracies_SR)
    needed = (labels_to_target(mean, target, between_rounds=True) for mean in means)
    return np.array([np.nan if labels is None else labels for labels in needed])


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)
