"""Temperature scaling: one number that makes a fitted network as sure as it is right."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from worker.learning.errors import NotFiniteError, ShapeError
from worker.learning.networks import Network

_LEAST, _MOST = 0.05, 20.0
_HALVINGS = 60


def best_temperature(logits_NC: Tensor, labels_N: Tensor) -> float:
    """Temperature T at which the softmax of logits / T has the least cross-entropy with held-out labels.

    The labels are smoothed by Laplace's rule of succession, to (N + 1) / (N + C) for the class that was seen, so that a
    few labels that all are right do not ask for certainty. The cross-entropy is convex in 1 / T, whose slope is halved
    upon.

    Args:
        logits_NC: of images that the network was not fitted to.
        labels_N: their classes.
    Returns:
        T in [0.05, 20]; above 1 the network was too sure.
    Raises:
        ShapeError: other axes, or no images.
        NotFiniteError: a logit that is NaN or infinite.
    References: Guo et al. 2017, section 4.2; Platt 1999, section 2.2 (smoothed labels).
    """
    if logits_NC.ndim != 2 or not len(logits_NC):
        raise ShapeError("logits_NC", ("N >= 1", "C"), logits_NC.shape)
    if labels_N.shape != logits_NC.shape[:1]:
        raise ShapeError("labels_N", logits_NC.shape[:1], labels_N.shape)
    if not bool(torch.isfinite(logits_NC).all()):
        raise NotFiniteError("logits_NC: a logit is NaN or infinite")
    logits_NC = logits_NC.double()
    count, class_count = logits_NC.shape
    own_N = logits_NC.gather(1, labels_N[:, None]).squeeze(1)
    wanted = float((own_N * count + logits_NC.sum(dim=1)).sum()) / (count + class_count)
    low, high = 1 / _MOST, 1 / _LEAST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        slope = float((torch.softmax(logits_NC * middle, dim=1) * logits_NC).sum()) - wanted
        low, high = (low, middle) if slope > 0 else (middle, high)
    return 2 / (low + high)


def scale_logits(network: Network, factor: float) -> None:
    """Multiply a network's logits by a factor, inside its last layer, so that whatever reads it sees them scaled.

    Raises:
        TypeError: the head does not end in a linear layer.
    """
    last = [module for module in network.head.modules() if not list(module.children())][-1]
    if not isinstance(last, nn.Linear):
        raise TypeError(f"the head of {network.spec.name} ends in {type(last).__name__}, not in a linear layer")
    with torch.no_grad():
        last.weight.mul_(factor)
        if last.bias is not None:
            last.bias.mul_(factor)


def assign_folds(labels_N: Tensor, folds: int, generator: Generator) -> Tensor:
    """Deal the images of each class out to folds, at random and as evenly as can be; return folds_N."""
    order = torch.randperm(len(labels_N), generator=generator)
    by_class = order[torch.sort(labels_N[order], stable=True).indices]
    folds_N = torch.empty(len(labels_N), dtype=torch.int64)
    folds_N[by_class] = torch.arange(len(labels_N)) % folds
    return folds_N
