"""Variation ratio: ask where the fewest posterior samples vote for the favourite class."""

from __future__ import annotations

import torch
from torch import Tensor

from worker.learning.acquisitions.base import ACQUISITIONS, Acquisition, Sight
from worker.learning.reading import check_samples


def variation_ratio_scores(log_probs_SNC: Tensor) -> Tensor:
    """One minus the share of the S samples whose likeliest class is the one that most samples find likeliest.

    Args:
        log_probs_SNC: log-softmax of S posterior samples, N images, C classes.
    Returns:
        scores_N in [0, 1 - 1 / C], multiples of 1 / S; higher = ask sooner. One sample never disagrees: all 0.
    Raises:
        ShapeError: not three axes, an empty sample axis, or fewer than two classes.
    References: Freeman 1965; Gal et al. 2017, section 3.
    """
    check_samples(log_probs_SNC)
    samples, count, classes = log_probs_SNC.shape
    tops_SN, favourites_SN = log_probs_SNC.max(dim=-1)
    votes_NC = log_probs_SNC.new_zeros(count, classes)
    votes_NC.scatter_add_(1, favourites_SN.T, votes_NC.new_ones(count, samples))
    # A vote is finite whatever was voted on.
    is_sound_N = (tops_SN < torch.inf).all(dim=0)
    return torch.where(is_sound_N, 1 - votes_NC.amax(dim=-1) / samples, torch.nan)


ACQUISITIONS.add(
    "variation_ratio",
    Acquisition(
        Sight.IMAGE,
        lambda evidence: variation_ratio_scores(evidence.seen.log_probs_SNC),
        lambda reading: {"agreement": 1 - variation_ratio_scores(reading.log_probs_SNC)},
    ),
)
