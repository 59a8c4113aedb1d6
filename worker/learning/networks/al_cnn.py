"""The small convolutional network of warm-started active learning: three convolutions, 512 units, dropout."""

from __future__ import annotations

from torch import nn

from worker.learning.networks.base import NETWORKS, Network, NetworkSpec


@NETWORKS.register("al_cnn")
def build_al_cnn(spec: NetworkSpec) -> Network:
    """Three 3x3 convolutions of 16, 32 and 64, each with batch-norm (unless left out), ReLU and max-pooling by 2, 2, 4.

    Below 16 pixels the last pool shrinks to what is left. Then each channel keeps its largest response in each cell of
    a grid of ``feature_side`` cells a side, fewer where fewer are left: with 1 there are 64 features, as published for
    28 pixels, with 2, from 32 pixels on, 256, and with 4, from 64 pixels on, 1,024.

    Raises:
        RecipeError: images of fewer than 4 pixels a side, which the pools would use up.
    References: source A (warm-started active learning on MNIST and CIFAR-10), its network of the same layers.
    """
    spec.need_side(4)
    layers: list[nn.Module] = []
    channels, side = spec.channels, spec.side
    is_normalised = bool(spec.parameters.get("batch_norm", True))  # weights of earlier releases do not say
    for width, widest_pool in ((16, 2), (32, 2), (64, 4)):
        pool = min(widest_pool, side)
        norms = [nn.BatchNorm2d(width)] if is_normalised else []
        layers += [nn.Conv2d(channels, width, 3, padding=1), *norms, nn.ReLU(), nn.MaxPool2d(pool)]
        channels, side = width, side // pool
    cells = min(side, int(spec.parameters.get("feature_side", 1)))  # weights of earlier releases do not say
    if side > cells:
        layers.append(nn.AdaptiveMaxPool2d(cells))
    trunk = nn.Sequential(*layers, nn.Flatten())
    dropout = nn.Dropout(float(spec.parameters["dropout"]))
    head = nn.Sequential(nn.Linear(64 * cells**2, 512), nn.ReLU(), dropout, nn.Linear(512, spec.class_count))
    return Network(spec, trunk, head)
