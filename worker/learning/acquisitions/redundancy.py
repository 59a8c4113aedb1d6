"""Redundancy: ask about the images least like the rest of the pool."""

from __future__ import annotations

import torch
from torch import Tensor

from worker.learning.acquisitions.base import ACQUISITIONS, Acquisition, Sight
from worker.learning.errors import check_shape


def mean_similarity(features_ND: Tensor) -> Tensor:
    """Sum of the cosine similarities of an image to all others of the pool, divided by N.

    The sum over a row of F F^T, with F the features at unit length, is F (F^T 1): exact in O(N D), without the N x D
    copy F or any N x N block. Features of length 0 are like nothing.

    Args:
        features_ND: any scale.
    Returns:
        similarities_N in [-1, 1], float64; not finite where the features are not.
    Raises:
        ShapeError: not two axes.
    References: source A, its redundancy term; the identity is ours.
    """
    check_shape("features_ND", features_ND.shape, ("N", "D"))
    lengths_N = torch.linalg.vector_norm(features_ND, dim=1)
    inverse_N = torch.where(lengths_N == 0, 0, 1 / lengths_N)
    total_D = features_ND.T @ inverse_N
    sums_N = (features_ND @ total_D).double() * inverse_N
    # What an image adds to its own sum.
    own_N = (lengths_N * inverse_N).double().square()
    similarities_N: Tensor = (sums_N - own_N) / max(len(features_ND), 1)
    return similarities_N


ACQUISITIONS.add("redundancy", Acquisition(Sight.POOL, lambda evidence: -mean_similarity(evidence.seen.features_ND)))
