"""Least confidence: ask where the likeliest class is least likely."""

from __future__ import annotations

from torch import Tensor

from worker.learning.acquisitions.base import ACQUISITIONS, Acquisition, Sight
from worker.learning.reading import mean_log_probs


def least_confidence_scores(log_probs_SNC: Tensor) -> Tensor:
    """One minus the largest probability of the mean prediction.

    Args:
        log_probs_SNC: log-softmax of S posterior samples, N images, C classes.
    Returns:
        scores_N in [0, 1 - 1 / C]; higher = ask sooner.
    Raises:
        ShapeError: not three axes, an empty sample axis, or fewer than two classes.
    References: Lewis and Gale 1994.
    """
    return 1 - mean_log_probs(log_probs_SNC).amax(dim=-1).exp()


ACQUISITIONS.add(
    "least_confidence",
    Acquisition(
        Sight.IMAGE,
        lambda evidence: least_confidence_scores(evidence.seen.mean.log_probs_SNC),
        lambda reading: {"confidence": 1 - least_confidence_scores(reading.log_probs_SNC)},
    ),
)
