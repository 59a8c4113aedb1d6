"""Residual networks, with a stem of their own for small images."""

from __future__ import annotations

from torch import nn

from worker.learning.networks.base import NETWORKS, Network, NetworkSpec
from worker.learning.networks.borrowed import borrow, split

_LARGEST_SMALL_SIDE = 64


@NETWORKS.register("resnet18")
@NETWORKS.register("resnet50")
def build_resnet(spec: NetworkSpec) -> Network:
    """Torchvision's residual network: 512 features for 18 layers, 2,048 for 50.

    Images of up to 64 pixels a side would shrink to a dot in the published stem (7x7 by steps of two, then a pool);
    they get one 3x3 convolution by steps of one. Published weights keep the stem that they were learned with. The
    published head silences nothing; ``dropout`` above 0 lets features be silenced, for a posterior to sample.

    Raises:
        RecipeError: images of fewer than 8 pixels a side.
    References: He et al. 2016, section 4.2 for the small stem; source B.
    """
    spec.need_side(8)
    body = borrow(spec)
    if spec.side <= _LARGEST_SMALL_SIDE and not spec.is_pretrained:
        body.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(body.conv1.weight, mode="fan_out", nonlinearity="relu")
        body.maxpool = nn.Identity()
    last, body.fc = body.fc, nn.Identity()
    # A layer that silences nothing stays where it is, so that weights fit whatever the share is in the next round.
    head = nn.Sequential(nn.Dropout(float(spec.parameters.get("dropout", 0.0))), last)
    return split(spec, body, head)
