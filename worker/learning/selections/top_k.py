"""Highest scores: the batch is the best of the ranking."""

from __future__ import annotations

import torch
from torch import Tensor

from worker.learning.selections.base import SELECTIONS, Selection, check_scores


def top_k(scores_N: Tensor, pending_N: Tensor, count: int) -> Tensor:
    """Positions of the highest scores, best first; equal scores in order of position.

    Args:
        scores_N: higher = ask sooner.
        pending_N: true where an image must not be chosen.
        count: B, the images wanted; with fewer at hand, all of them.
    Returns:
        positions_B, int64.
    Raises:
        ShapeError, NotFiniteError, ValueError: as ``check_scores``.
    """
    check_scores(scores_N, pending_N, count)
    free = (~pending_N).nonzero().squeeze(1)
    order = torch.sort(scores_N[free], descending=True, stable=True).indices
    return free[order[:count]]


SELECTIONS.add(
    "top_k",
    Selection(
        lambda scored: top_k(scored.scores_N, scored.pending_N, scored.count),
        needs_features=False,
        follows_scores=True,
    ),
)
