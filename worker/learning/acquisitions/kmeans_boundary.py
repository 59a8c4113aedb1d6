"""Cluster boundaries: ask about images halfway between two clusters of the features."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from worker.learning.acquisitions.base import ACQUISITIONS, Acquisition, Evidence, Sight
from worker.learning.clustering import k_means
from worker.learning.errors import NotFiniteError, check_shape
from worker.learning.pool import chunk_slices

_CHUNK = 2**14


def kmeans_boundary_scores(features_ND: Tensor, clusters: int, generator: Generator) -> Tensor:
    """Distance to the nearest centre less the distance to the second nearest.

    The points are clustered in an order of their own, so the scores follow their images however these are ordered.

    Args:
        features_ND: of the whole pool.
        clusters: k; fewer images have as many clusters.
        generator: source of the first centres.
    Returns:
        scores_N, not positive, in the features' units; higher = ask sooner. All 0 where only one centre is left.
    Raises:
        ShapeError: not two axes.
        NotFiniteError: features that are NaN or infinite.
    References: source B, its k-means strategy (k = 12).
    """
    check_shape("features_ND", features_ND.shape, ("N", "D"))
    if not bool(torch.isfinite(features_ND).all()):
        raise NotFiniteError("features_ND: a feature is NaN or infinite")
    if not len(features_ND):
        return features_ND.new_empty(0)
    direction_D = torch.randn(features_ND.shape[1], generator=generator, dtype=torch.float64)
    order = (features_ND.double() @ direction_D).argsort(stable=True)
    centres_KD = k_means(features_ND[order], min(clusters, len(features_ND)), generator).centres_KD
    if len(centres_KD) < 2:
        return features_ND.new_zeros(len(features_ND))
    parts = []
    for part in chunk_slices(len(features_ND), _CHUNK):
        gaps_NK = torch.cdist(features_ND[part], centres_KD, compute_mode="donot_use_mm_for_euclid_dist")
        nearest_N2 = gaps_NK.topk(2, dim=1, largest=False).values
        parts.append(nearest_N2[:, 0] - nearest_N2[:, 1])
    return torch.cat(parts)


def _score(evidence: Evidence) -> Tensor:
    # Fewer clusters than classes would put two classes into one.
    classes = evidence.seen.log_probs_SNC.shape[2]
    clusters = max(int(evidence.parameters["clusters"]), classes)
    return kmeans_boundary_scores(evidence.seen.features_ND, clusters, evidence.generator)


ACQUISITIONS.add("kmeans_boundary", Acquisition(Sight.POOL, _score))
