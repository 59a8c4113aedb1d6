"""The inception networks, without their auxiliary heads."""

from __future__ import annotations

from torch import nn

from worker.learning.networks.base import NETWORKS, Network, NetworkSpec
from worker.learning.networks.borrowed import HALF, borrow, split


@NETWORKS.register("googlenet")
def build_googlenet(spec: NetworkSpec) -> Network:
    """Torchvision's GoogLeNet: 1,024 features, then dropout of 0.2 and one linear layer.

    Raises:
        RecipeError: images of fewer than 15 pixels a side, which five halvings use up.
    References: Szegedy et al. 2015; source D.
    """
    spec.need_side(15)
    return _split_inception(spec)


@NETWORKS.register("inception_v3")
def build_inception_v3(spec: NetworkSpec) -> Network:
    """Torchvision's Inception v3: 2,048 features, then dropout of 0.5 and one linear layer.

    Raises:
        RecipeError: images of fewer than 75 pixels a side, which its unpadded layers use up.
    References: Szegedy et al. 2016; source D.
    """
    spec.need_side(75)
    return _split_inception(spec)


def _split_inception(spec: NetworkSpec) -> Network:
    body = borrow(spec, aux_logits=False, init_weights=True)
    head = nn.Sequential(body.dropout, body.fc)
    body.dropout, body.fc = nn.Identity(), nn.Identity()
    # Their weights were learned on pixels in [-1, 1]; torchvision converts to that, and here nothing else comes in.
    return split(spec, body, head, HALF, HALF)
