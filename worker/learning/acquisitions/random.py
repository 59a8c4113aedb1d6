"""Random: images drawn uniformly, the baseline that every strategy has to beat."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from worker.learning.acquisitions.base import ACQUISITIONS, Acquisition, Sight


def random_scores(count: int, generator: Generator) -> Tensor:
    """Midpoints of ``count`` equal parts of (0, 1) in random order: no two alike, so every order is equally likely.

    Args:
        count: number of images N.
        generator: source of the order.
    Returns:
        scores_N in (0, 1), float64.
    """
    return (torch.randperm(count, generator=generator).double() + 0.5) / max(count, 1)


ACQUISITIONS.add(
    "random", Acquisition(Sight.NOTHING, lambda evidence: random_scores(evidence.count, evidence.generator))
)
