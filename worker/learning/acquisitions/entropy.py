"""Entropy: ask where the predicted class is most open, over all classes."""

from __future__ import annotations

import torch
from torch import Tensor

from worker.learning.acquisitions.base import ACQUISITIONS, Acquisition, Sight
from worker.learning.reading import check_samples


def entropy_scores(log_probs_SNC: Tensor) -> Tensor:
    """Entropy of the mean prediction, in nats; a class of probability 0 contributes 0.

    Args:
        log_probs_SNC: log-softmax of S posterior samples, N images, C classes.
    Returns:
        scores_N in [0, log C]; higher = ask sooner.
    Raises:
        ShapeError: not three axes, an empty sample axis, or fewer than two classes.
    References: Shannon 1948; Settles 2009, section 3.1.
    """
    check_samples(log_probs_SNC)
    # Of fresh numbers, so that no further N x C are needed.
    probs_NC = log_probs_SNC[0].exp() if len(log_probs_SNC) == 1 else log_probs_SNC.exp().mean(dim=0)
    return torch.sum(torch.special.entr(probs_NC, out=probs_NC), dim=-1)


ACQUISITIONS.add(
    "entropy",
    Acquisition(
        Sight.IMAGE,
        lambda evidence: entropy_scores(evidence.seen.mean.log_probs_SNC),
        lambda reading: {"entropy": entropy_scores(reading.log_probs_SNC)},
    ),
)
