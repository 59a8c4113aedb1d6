"""What every batch selection is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from app.recipes import Value
from worker.learning.errors import NotFiniteError, ShapeError
from worker.learning.registry import Registry


@dataclass(frozen=True)
class Scored:
    """The images a batch is chosen from, all on the CPU.

    ``scores_N`` higher = ask sooner; ``pending_N`` true where an image is asked already and must not be chosen again;
    ``features_ND`` None unless the selection says that it needs them; ``count`` is B, the images wanted.
    """

    scores_N: Tensor
    pending_N: Tensor
    count: int
    generator: Generator
    parameters: Mapping[str, Value] = field(default_factory=dict)
    features_ND: Tensor | None = None

    def __post_init__(self) -> None:
        check_scores(self.scores_N, self.pending_N, self.count)
        if self.features_ND is not None and (
            self.features_ND.ndim != 2 or self.features_ND.shape[0] != self.scores_N.shape[0]
        ):
            raise ShapeError("features_ND", (self.scores_N.shape[0], "D"), self.features_ND.shape)


@dataclass(frozen=True)
class Selection:
    """An entry of the registry.

    ``select`` returns positions in ``scores_N``, best first, each at most once. ``follows_scores`` says that the order
    is that of the scores and nothing else, so uniform scores give a uniform draw.
    """

    select: Callable[[Scored], Tensor]
    needs_features: bool
    follows_scores: bool


SELECTIONS: Registry[Selection] = Registry("selection")


def check_scores(scores_N: Tensor, pending_N: Tensor, count: int) -> None:
    """Check what a selection is given.

    Raises:
        ShapeError: scores of other than one axis, or a mask of another length.
        NotFiniteError: a score that is NaN or infinite.
        ValueError: a count below zero, or a mask that is not boolean.
    """
    if scores_N.ndim != 1:
        raise ShapeError("scores_N", ("N",), scores_N.shape)
    if pending_N.shape != scores_N.shape:
        raise ShapeError("pending_N", scores_N.shape, pending_N.shape)
    if pending_N.dtype != torch.bool:
        raise ValueError(f"pending_N: expected booleans, got {pending_N.dtype}")
    if not bool(torch.isfinite(scores_N).all()):
        raise NotFiniteError("scores_N: a score is NaN or infinite")
    if count < 0:
        raise ValueError(f"count: {count} images cannot be chosen")
