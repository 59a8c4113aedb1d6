"""SqueezeNet 1.1."""

from __future__ import annotations

from torch import nn

from worker.learning.networks.base import NETWORKS, Network, NetworkSpec
from worker.learning.networks.borrowed import borrow, split


@NETWORKS.register("squeezenet1_1")
def build_squeezenet1_1(spec: NetworkSpec) -> Network:
    """Torchvision's SqueezeNet 1.1: 512 features, then dropout of 0.5 and one linear layer.

    The published classifier is a 1x1 convolution whose outputs are averaged; here its inputs are averaged first, so the
    features of an image are one vector, and what follows is a linear head as everywhere else.

    Raises:
        RecipeError: images of fewer than 17 pixels a side, which four halvings use up.
    References: Iandola et al. 2016; source D.
    """
    spec.need_side(17)
    body = borrow(spec)
    body.classifier = nn.AdaptiveAvgPool2d(1)  # and the network flattens what comes out
    return split(spec, body, nn.Sequential(nn.Dropout(0.5), nn.Linear(512, spec.class_count)))
