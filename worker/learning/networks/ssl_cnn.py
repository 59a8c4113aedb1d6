"""The convolutional network of the pseudo-labelling runs: four convolutions, a dense layer of 128, dropout."""

from __future__ import annotations

from torch import nn

from worker.learning.networks.base import NETWORKS, Network, NetworkSpec

_DENSE = 128


@NETWORKS.register("ssl_cnn")
def build_ssl_cnn(spec: NetworkSpec) -> Network:
    """Convolutions of 32, 32, pool, 64, 64, pool, each with batch-norm and ReLU; 128 features.

    At 28 pixels the dense layer sees 3,136 numbers, as published; it grows with the square of the side, so the side is
    bounded. The published L2 of 0.001 on every weight is ``fitting.weight_decay = 0.002``, the slope of 0.001 w^2.

    Raises:
        RecipeError: images below 4 pixels a side, which the pools would use up, or above 128.
    References: source A (pseudo-labelling on MNIST), its network of the same layers.
    """
    spec.need_side(4, 128)
    layers: list[nn.Module] = []
    channels = spec.channels
    for width in (32, 64):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    pixels = channels * (spec.side // 4) ** 2
    trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(pixels, _DENSE), nn.ReLU())
    head = nn.Sequential(nn.Dropout(float(spec.parameters["dropout"])), nn.Linear(_DENSE, spec.class_count))
    return Network(spec, trunk, head)
