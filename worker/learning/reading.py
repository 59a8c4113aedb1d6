"""What a posterior says about images: the arrays that flow from posteriors to acquisitions and selections."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Reading:
    """``log_probs_SNC`` (log-softmax of S posterior samples) and ``features_ND`` of N images, float32."""

    log_probs_SNC: Tensor
    features_ND: Tensor

    def to(self, device: torch.device) -> Reading:
        """Return the reading on another device."""
        return Reading(self.log_probs_SNC.to(device), self.features_ND.to(device))


def join(readings: list[Reading]) -> Reading:
    """Put readings of consecutive images together; at least one."""
    return Reading(
        torch.cat([reading.log_probs_SNC for reading in readings], dim=1),
        torch.cat([reading.features_ND for reading in readings]),
    )
