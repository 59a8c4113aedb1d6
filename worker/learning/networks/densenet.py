"""DenseNet-121."""

from __future__ import annotations

from torch import nn

from worker.learning.networks.base import NETWORKS, Network, NetworkSpec
from worker.learning.networks.borrowed import borrow, split


@NETWORKS.register("densenet121")
def build_densenet121(spec: NetworkSpec) -> Network:
    """Torchvision's DenseNet-121: 1,024 features, then one linear layer.

    Raises:
        RecipeError: images of fewer than 29 pixels a side, which five halvings use up.
    References: Huang et al. 2017; source D.
    """
    spec.need_side(29)
    body = borrow(spec)
    head, body.classifier = body.classifier, nn.Identity()
    return split(spec, body, head)
