"""What a posterior says about images: the arrays that flow from posteriors to acquisitions and selections."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from worker.learning.errors import ShapeError

# Below it a mean of probabilities loses digits of its logarithm, and lower down all of them.
_LEAST_MEAN = 1e-30


@dataclass(frozen=True)
class Reading:
    """``log_probs_SNC`` (log-softmax of S posterior samples) and ``features_ND`` of N images, float32."""

    log_probs_SNC: Tensor
    features_ND: Tensor

    @cached_property
    def probs_SNC(self) -> Tensor:  # noqa: N802 - the axes are part of the name
        """Return the probabilities; exponentials are the larger part of a score, so they are taken once."""
        return self.log_probs_SNC.exp()

    @cached_property
    def mean_log_probs_NC(self) -> Tensor:  # noqa: N802
        """Return the logarithm of the mean prediction, as ``mean_log_probs``.

        Raises:
            ShapeError: as ``check_samples``.
        """
        check_samples(self.log_probs_SNC)
        if len(self.log_probs_SNC) > 1:
            mean_NC = self.probs_SNC.mean(dim=0)
            if not mean_NC.numel() or bool(mean_NC.amin() >= _LEAST_MEAN):
                return mean_NC.log()
        return mean_log_probs(self.log_probs_SNC)

    @property
    def mean(self) -> Reading:
        """Return a reading whose one sample is the mean prediction."""
        return Reading(self.mean_log_probs_NC.unsqueeze(0), self.features_ND)

    def to(self, device: torch.device) -> Reading:
        """Return the reading on another device."""
        return Reading(self.log_probs_SNC.to(device), self.features_ND.to(device))


def join(readings: list[Reading]) -> Reading:
    """Put readings of consecutive images together; at least one."""
    return Reading(
        torch.cat([reading.log_probs_SNC for reading in readings], dim=1),
        torch.cat([reading.features_ND for reading in readings]),
    )


def mean_log_probs(log_probs_SNC: Tensor) -> Tensor:
    """Logarithm of the mean of S probability vectors.

    Args:
        log_probs_SNC: log-softmax of S posterior samples, N images, C classes.
    Returns:
        log_probs_NC; -inf where every sample says 0.
    Raises:
        ShapeError: as ``check_samples``.
    """
    check_samples(log_probs_SNC)
    if log_probs_SNC.shape[0] == 1:
        return log_probs_SNC[0]
    return log_probs_SNC.logsumexp(dim=0) - math.log(log_probs_SNC.shape[0])


def check_samples(log_probs_SNC: Tensor, least: int = 1) -> None:
    """Check the axes of predictions.

    Raises:
        ShapeError: not three axes, fewer than ``least`` samples, or fewer than two classes.
    """
    if log_probs_SNC.ndim != 3 or log_probs_SNC.shape[0] < least or log_probs_SNC.shape[2] < 2:
        raise ShapeError("log_probs_SNC", (f"S >= {least}", "N", "C >= 2"), log_probs_SNC.shape)
