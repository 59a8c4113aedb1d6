"""Cluster margin: of the images with the highest scores, those in the middle of as many clusters as the batch holds."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from worker.learning.clustering import k_means
from worker.learning.errors import check_shape
from worker.learning.selections.base import SELECTIONS, Scored, Selection, check_scores
from worker.learning.selections.top_k import top_k


def cluster_margin(
    scores_N: Tensor,
    features_ND: Tensor,
    pending_N: Tensor,
    count: int,
    generator: Generator,
    *,
    batch: int,
    widen: float = 10.0,
) -> Tensor:
    """k-means among the ``widen`` times ``batch`` highest scores; the image nearest each centre is chosen.

    The chosen ones come in order of their scores, then the others of the ranking by score, as a reserve.

    Args:
        scores_N: higher = ask sooner.
        features_ND: finite features.
        pending_N: true where an image must not be chosen.
        count: images wanted in all; with fewer at hand, all of them.
        generator: source of the clusters.
        batch: B, clusters made and images chosen for being in their middle.
        widen: beta, 1 or more; at 1 the batch is that of ``top_k``.
    Returns:
        positions, int64.
    Raises:
        ShapeError, NotFiniteError, ValueError: as ``check_scores`` and ``k_means``.
    References: Zhdanov 2019 (diverse mini-batch active learning); Citovsky et al. 2021 (cluster margin).
    """
    check_scores(scores_N, pending_N, count)
    check_shape("features_ND", features_ND.shape, (len(scores_N), "D"))
    batch = min(batch, count)
    shortlist = top_k(scores_N, pending_N, max(batch, round(widen * batch)))
    if not len(shortlist):
        return shortlist
    clusters = k_means(features_ND[shortlist], batch, generator)
    # The shortlist is in order of score, so a stable sort leaves the highest score first of equally near ones.
    nearest_first = torch.sort(clusters.squares_N, stable=True).indices
    of_cluster = clusters.assigned_N[nearest_first].tolist()
    firsts = {cluster: place for place, cluster in reversed(list(enumerate(of_cluster)))}
    chosen = shortlist[nearest_first[list(firsts.values())].sort().values]
    taken_N = pending_N.clone()
    taken_N[chosen] = True
    return torch.cat([chosen, top_k(scores_N, taken_N, count - len(chosen))])


def _select(scored: Scored) -> Tensor:
    return cluster_margin(
        scored.scores_N,
        scored.seen_features,
        scored.pending_N,
        scored.count,
        scored.generator,
        batch=scored.batch,
        widen=float(scored.parameters["widen"]),
    )


SELECTIONS.add("cluster_margin", Selection(_select, needs_features=True))
