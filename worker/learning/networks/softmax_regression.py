"""Softmax regression: one linear layer on the pixels."""

from __future__ import annotations

from torch import nn

from worker.learning.networks.base import NETWORKS, Network, NetworkSpec


@NETWORKS.register("softmax_regression")
def build_softmax_regression(spec: NetworkSpec) -> Network:
    """Logits linear in the pixels, whose features are the pixels themselves.

    References: source E (least-confident MNIST), "ten neurons".
    """
    pixels = spec.channels * spec.side**2
    return Network(spec, nn.Flatten(), nn.Linear(pixels, spec.class_count))
