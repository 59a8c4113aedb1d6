"""Margin: ask where the two likeliest classes are closest."""

from __future__ import annotations

from torch import Tensor

from worker.learning.acquisitions.base import ACQUISITIONS, Acquisition, Sight, top_two


def margin_scores(log_probs_SNC: Tensor) -> Tensor:
    """Negative difference between the two largest probabilities of the mean prediction.

    Args:
        log_probs_SNC: log-softmax of S posterior samples, N images, C classes.
    Returns:
        scores_N in [-1, 0]; higher = ask sooner.
    Raises:
        ShapeError: not three axes, an empty sample axis, or fewer than two classes.
    References: Scheffer et al. 2001.
    """
    probs_N2, _ = top_two(log_probs_SNC)
    return probs_N2[:, 1] - probs_N2[:, 0]


ACQUISITIONS.add(
    "margin",
    Acquisition(
        Sight.IMAGE,
        lambda evidence: margin_scores(evidence.seen.mean.log_probs_SNC),
        lambda reading: {"margin": -margin_scores(reading.log_probs_SNC)},
    ),
)
