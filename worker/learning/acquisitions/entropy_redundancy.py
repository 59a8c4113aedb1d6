"""Entropy less redundancy: ask where the predicted class is open and few other images look alike."""

from __future__ import annotations

from torch import Tensor

from worker.learning.acquisitions.base import ACQUISITIONS, Acquisition, Evidence, Sight
from worker.learning.acquisitions.entropy import entropy_scores
from worker.learning.acquisitions.redundancy import mean_similarity


def entropy_redundancy_scores(log_probs_SNC: Tensor, features_ND: Tensor, alpha: float) -> Tensor:
    """Entropy of the mean prediction less alpha times the redundancy, in nats.

    Args:
        log_probs_SNC: log-softmax of S posterior samples, N images, C classes.
        features_ND: of the same images, which are the whole pool.
        alpha: nats that a mean similarity of 1 takes away.
    Returns:
        scores_N in [-alpha, log C + alpha]; higher = ask sooner.
    Raises:
        ShapeError: as ``entropy_scores`` and ``mean_similarity``.
    References: source A, its hybrid strategy (alpha = 5).
    """
    return entropy_scores(log_probs_SNC).double() - alpha * mean_similarity(features_ND)


def _score(evidence: Evidence) -> Tensor:
    seen = evidence.seen
    return entropy_redundancy_scores(seen.log_probs_SNC, seen.features_ND, float(evidence.parameters["alpha"]))


ACQUISITIONS.add(
    "entropy_redundancy",
    Acquisition(Sight.POOL, _score, lambda reading: {"entropy": entropy_scores(reading.log_probs_SNC)}),
)
