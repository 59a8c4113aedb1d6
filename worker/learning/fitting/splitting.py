"""Keeping some labels of people aside to decide when to stop."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from worker.learning.fitting.base import TrainingSet

LEAST_VALIDATION = 10


def stratified_split(labels_N: Tensor, share: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw validation rows so that every class keeps its share, and at least one row to train on.

    Args:
        labels_N: classes, on the CPU.
        share: of the rows to keep aside, in [0, 1).
        generator: source of the draw.
    Returns:
        (training rows, validation rows), both ascending. Validation is empty when fewer than 10 rows would be kept
        aside, too few to tell a better epoch from a lucky one.
    """
    count = len(labels_N)
    everything = torch.arange(count)
    wanted = round(share * count)
    if wanted < LEAST_VALIDATION:
        return everything, everything[:0]
    order = torch.randperm(count, generator=generator)
    _, classes_N, totals_C = torch.unique(labels_N, return_inverse=True, return_counts=True)
    # Rows of one class stand together, in random order; each is placed at (k + 1/2) / total of its class, so the rows
    # with the lowest places are a share of every class. The last of each class stays for training.
    grouped = order[torch.sort(classes_N[order], stable=True).indices]
    starts_C = totals_C.cumsum(0) - totals_C
    rank_N = everything - starts_C[classes_N[grouped]]
    place_N = (rank_N + 0.5) / totals_C[classes_N[grouped]]
    place_N[rank_N == totals_C[classes_N[grouped]] - 1] = torch.inf
    kept_aside = torch.sort(place_N, stable=True).indices[: min(wanted, count - len(totals_C))]
    is_validation = torch.zeros(count, dtype=torch.bool)
    is_validation[grouped[kept_aside]] = True
    return (~is_validation).nonzero().squeeze(1), is_validation.nonzero().squeeze(1)


def split(data: TrainingSet, share: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Split a training set as ``stratified_split`` does the labels of people; labels of models are all trained on."""
    labels_N, people = data.labels_N.cpu(), data.by_people()
    if people is None:
        return stratified_split(labels_N, share, generator)
    _, kept_aside = stratified_split(labels_N[people], share, generator)
    is_trained_N = torch.ones(len(data), dtype=torch.bool)
    is_trained_N[people[kept_aside]] = False
    return is_trained_N.nonzero().squeeze(1), people[kept_aside]
