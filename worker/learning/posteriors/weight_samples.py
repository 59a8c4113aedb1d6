"""A network read with samples of all its weights: anew for each of them, or by its slopes at the fitted weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from worker.learning.networks import Network
from worker.learning.posteriors.curvature import slopes_chunk, weight_slopes
from worker.learning.reading import Reading


@dataclass(frozen=True)
class SampledWeights:
    """The network itself with each of S samples of the weights; S passes through all of it.

    ``offsets_SP`` are differences from the fitted weights, in the order of ``network.parameters()``.
    """

    network: Network
    offsets_SP: Tensor

    def read(self, images_NCHW: Tensor) -> Reading:
        """Return log_probs_SNC and the features_ND of the fitted weights, both float32."""
        fitted = {name: value.detach() for name, value in self.network.named_parameters()}
        parts = torch.split(self.offsets_SP, [value.numel() for value in fitted.values()], dim=1)
        logits = []
        for sample in range(len(self.offsets_SP)):
            offsets = zip(fitted.items(), parts, strict=True)
            drawn = {name: value + part[sample].view(value.shape) for (name, value), part in offsets}
            logits.append(functional_call(self.network, drawn, (images_NCHW,)))
        features_ND = self.network.trunk(images_NCHW)
        return Reading(torch.log_softmax(torch.stack(logits).float(), dim=-1), features_ND.float())


@dataclass(frozen=True)
class LinearisedWeights:
    """The network's logits as a linear function of its weights: fitted logits plus slopes times offsets.

    The Gauss-Newton curvature is the exact curvature of this linear function, not of the network, which far from the
    fitted weights says nothing sensible. ``offsets_SP`` as in ``SampledWeights``.

    References: Immer et al. 2021.
    """

    network: Network
    offsets_SP: Tensor

    def read(self, images_NCHW: Tensor) -> Reading:
        """Return log_probs_SNC and the features_ND of the fitted weights, both float32."""
        logits = []
        for images in torch.split(images_NCHW, slopes_chunk(self.network)):
            logits_NC, slopes_NCP = weight_slopes(self.network, images)
            moved_NCS = slopes_NCP @ self.offsets_SP.to(slopes_NCP.dtype).T
            logits.append(logits_NC.unsqueeze(0) + moved_NCS.permute(2, 0, 1))
        features_ND = self.network.trunk(images_NCHW)
        return Reading(torch.log_softmax(torch.cat(logits, dim=1).float(), dim=-1), features_ND.float())
