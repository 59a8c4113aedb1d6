"""What a pseudo-labeler works on and what it gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worker.learning.errors import ShapeError
from worker.learning.pool import Rows


@dataclass(frozen=True)
class PseudoLabels:
    """Labels that a model gave: int64 ``rows``, ascending, and ``labels``, float32 ``confidences`` in [0, 1]; all [N].

    Rows that a person has labelled are never among them.
    """

    rows: Rows
    labels: Rows
    confidences: np.ndarray

    def __post_init__(self) -> None:
        for name in ("labels", "confidences"):
            if getattr(self, name).shape != self.rows.shape:
                raise ShapeError(f"pseudo-labels' {name}", self.rows.shape, getattr(self, name).shape)

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def none(cls) -> PseudoLabels:
        """Return no labels."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
