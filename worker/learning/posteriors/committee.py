"""The committee: several networks, fitted from different first weights, as posterior samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worker.learning.networks import Network
from worker.learning.posteriors.base import POSTERIORS, Fitted, PosteriorKind, members_wanted
from worker.learning.reading import Reading


@dataclass(frozen=True)
class Committee:
    """K networks as a posterior of S = K samples.

    The features are those of the first member: each has axes of its own, so a mean of features would mean nothing.
    """

    networks: tuple[Network, ...]

    def read(self, images_NCHW: Tensor) -> Reading:
        """Return log_probs_SNC, one sample a member, and features_ND of the first, all float32."""
        first, *others = self.networks
        features_ND = first.trunk(images_NCHW)
        logits = [first.head(features_ND), *(network(images_NCHW) for network in others)]
        return Reading(torch.log_softmax(torch.stack(logits).float(), dim=-1), features_ND.float())


def make_committee(fitted: Fitted) -> Committee:
    """Gather the members.

    Raises:
        ValueError: other than the number of networks that the parameters say.
    References: Seung et al. 1992; Lakshminarayanan et al. 2017.
    """
    networks, wanted = (fitted.network, *fitted.others), members_wanted(fitted.parameters)
    if len(networks) != wanted:
        raise ValueError(f"networks: expected {wanted} members, got {len(networks)}")
    return Committee(networks)


POSTERIORS.add("committee", PosteriorKind(make_committee))
