"""EfficientNet-B0."""

from __future__ import annotations

from torch import nn

from worker.learning.networks.base import NETWORKS, Network, NetworkSpec
from worker.learning.networks.borrowed import borrow, split


@NETWORKS.register("efficientnet_b0")
def build_efficientnet_b0(spec: NetworkSpec) -> Network:
    """Torchvision's EfficientNet-B0: 1,280 features, then dropout of 0.2 and one linear layer.

    Raises:
        RecipeError: images of fewer than 8 pixels a side.
    References: Tan and Le 2019; source C.
    """
    spec.need_side(8)
    body = borrow(spec)
    head, body.classifier = body.classifier, nn.Identity()
    return split(spec, body, head)
