"""The plug-in posterior: the fitted network's softmax, taken at its word."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worker.learning.networks import Network
from worker.learning.posteriors.base import POSTERIORS, Fitted, PosteriorKind
from worker.learning.reading import Reading


@dataclass(frozen=True)
class Plugin:
    """The point estimate as a posterior of S = 1 sample."""

    network: Network

    def read(self, images_NCHW: Tensor) -> Reading:
        """Return log_probs_SNC with S = 1 and features_ND, both float32."""
        features_ND = self.network.trunk(images_NCHW)
        logits_NC = self.network.head(features_ND)
        # The softmax is taken in float32 whatever precision the layers ran in.
        log_probs_NC = torch.log_softmax(logits_NC.float(), dim=-1)
        return Reading(log_probs_NC.unsqueeze(0), features_ND.float())


def make_plugin(fitted: Fitted) -> Plugin:
    """Take the network as it is."""
    return Plugin(fitted.network)


POSTERIORS.add("plugin", PosteriorKind(make_plugin))
