"""BALD: ask where the posterior samples are each sure but disagree."""

from __future__ import annotations

import torch
from torch import Tensor

from worker.learning.acquisitions.base import ACQUISITIONS, Acquisition, Sight
from worker.learning.acquisitions.entropy import entropy_scores
from worker.learning.reading import Reading, check_samples

# Probability 0, as a number that 0 can be multiplied with.
_LEAST_LOG_PROB = -1e4


def bald_scores(log_probs_SNC: Tensor) -> Tensor:
    """Mutual information between the label and the weights: entropy of the mean less mean of the entropies, in nats.

    Args:
        log_probs_SNC: log-softmax of S posterior samples, N images, C classes.
    Returns:
        scores_N in [0, log C]; higher = ask sooner.
    Raises:
        ShapeError: not three axes, S < 2, or fewer than two classes.
    References: Houlsby et al. 2011; Gal et al. 2017, equation 2.
    """
    return _scores(Reading(log_probs_SNC, log_probs_SNC.new_empty(0, 0)))


def _scores(reading: Reading) -> Tensor:
    """BALD of a reading, whose probabilities and mean prediction others may need as well."""
    check_samples(reading.log_probs_SNC, least=2)
    entropies_N = entropy_scores(reading.mean.log_probs_SNC)
    # Rounding may leave a hair below 0, which mutual information never is.
    return (entropies_N - _mean_entropy(reading.log_probs_SNC, reading.probs_SNC)).clamp_min(0)


def expected_entropy(log_probs_SNC: Tensor) -> Tensor:
    """Mean over the samples of the entropy of each, entropies_N in [0, log C], in nats."""
    return _mean_entropy(log_probs_SNC, log_probs_SNC.exp())


def _mean_entropy(log_probs_SNC: Tensor, probs_SNC: Tensor) -> Tensor:
    """Mean entropy of the samples; the logarithms at hand are cheaper than ``entr``, which takes them anew."""
    products_SNC = probs_SNC * log_probs_SNC.clamp_min(_LEAST_LOG_PROB)
    return torch.sum(products_SNC, dim=(0, 2)).neg_() / log_probs_SNC.shape[0]


ACQUISITIONS.add(
    "bald",
    Acquisition(
        Sight.IMAGE,
        lambda evidence: _scores(evidence.seen),
        lambda reading: {
            "entropy": entropy_scores(reading.log_probs_SNC),
            "expected_entropy": expected_entropy(reading.log_probs_SNC),
        },
    ),
)
