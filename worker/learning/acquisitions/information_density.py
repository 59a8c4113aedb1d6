"""Information density: ask where the prediction is open and many other images look alike."""

from __future__ import annotations

from torch import Tensor

from worker.learning.acquisitions.base import ACQUISITIONS, Acquisition, Evidence, Sight
from worker.learning.acquisitions.entropy import entropy_scores
from worker.learning.acquisitions.least_confidence import least_confidence_scores
from worker.learning.acquisitions.margin import margin_scores
from worker.learning.acquisitions.redundancy import mean_similarity


def information_density_scores(uncertainties_N: Tensor, features_ND: Tensor, beta: float) -> Tensor:
    """Uncertainty times the power beta of the density, which is the mean cosine similarity to the pool.

    Args:
        uncertainties_N: not negative; higher = less certain.
        features_ND: of the same images, which are the whole pool. An image unlike the pool on the whole (similarity
            below 0) has density 0.
        beta: power of the density; 0 leaves the uncertainty alone.
    Returns:
        scores_N between 0 and the uncertainty; higher = ask sooner.
    Raises:
        ShapeError: as ``mean_similarity``.
    References: Settles and Craven 2008, equation 14.
    """
    return uncertainties_N.double() * mean_similarity(features_ND).clamp_min(0) ** beta


# The margin is turned into an uncertainty in [0, 1]: negative scores would ask about the least dense first.
_UNCERTAINTIES = {
    "entropy": entropy_scores,
    "margin": lambda log_probs_SNC: 1 + margin_scores(log_probs_SNC),
    "least_confidence": least_confidence_scores,
}


def _score(evidence: Evidence) -> Tensor:
    seen, parameters = evidence.seen, evidence.parameters
    uncertainties_N = _UNCERTAINTIES[str(parameters["uncertainty"])](seen.log_probs_SNC)
    return information_density_scores(uncertainties_N, seen.features_ND, float(parameters["beta"]))


ACQUISITIONS.add(
    "information_density",
    Acquisition(
        Sight.POOL,
        _score,
        lambda reading: {name: measure(reading.log_probs_SNC) for name, measure in _UNCERTAINTIES.items()},
    ),
)
