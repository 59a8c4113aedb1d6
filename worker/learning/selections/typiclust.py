"""TypiClust: cluster everything, then ask about the most typical image of each cluster without a label."""

from __future__ import annotations

import heapq

import torch
from torch import Generator, Tensor

from worker.learning.clustering import k_means
from worker.learning.errors import check_shape
from worker.learning.pool import chunk_slices
from worker.learning.selections.base import SELECTIONS, Scored, Selection
from worker.learning.selections.top_k import top_k

# Clusters of fewer images than this hold outliers (Hacohen et al. 2022, appendix F).
_SMALLEST_CLUSTER = 5
_BLOCK_NUMBERS = 2**22
_NO_GAP = 1e-12


def typiclust(
    features_ND: Tensor,
    is_known_N: Tensor,
    batch: int,
    count: int,
    generator: Generator,
    *,
    neighbours: int = 20,
    most_clusters: int = 500,
) -> Tensor:
    """The most typical images of the largest clusters that know the fewest labels, cluster after cluster.

    k-means makes as many clusters as there are known images and images in the batch. The next image is always taken
    from the cluster with the fewest known or chosen images, the largest of those; clusters of under 5 images wait until
    all others are used up. So the first ``batch`` images come from clusters of their own as long as there are so many,
    and further ones from the same clusters in turns.

    Args:
        features_ND: finite features of the pool and of all labelled images.
        is_known_N: true for labelled and pending images, which are clustered too but never chosen.
        batch: size of the batch for which the clusters are made.
        count: images wanted; with fewer at hand, all of them.
        generator: source of the clusters.
        neighbours: nearest neighbours that typicality is measured by.
        most_clusters: bound of the clusters.
    Returns:
        positions_B, int64, in the order chosen.
    Raises:
        ShapeError, NotFiniteError: as ``k_means``.
    References: Hacohen, Dekel and Weinshall 2022, algorithm 1.
    """
    check_shape("is_known_N", is_known_N.shape, (len(features_ND),))
    free = int((~is_known_N).sum())
    if not free or not count:
        return torch.empty(0, dtype=torch.int64)
    wanted = min(int(is_known_N.sum()) + max(batch, 1), most_clusters, len(features_ND))
    assigned_N = k_means(features_ND, wanted, generator).assigned_N
    sizes_K = assigned_N.bincount().tolist()
    known_K = assigned_N.bincount(weights=is_known_N.double()).long().tolist()
    waiting = [
        (size < _SMALLEST_CLUSTER, known, -size, cluster)
        for cluster, (size, known) in enumerate(zip(sizes_K, known_K, strict=True))
        if size > known
    ]
    heapq.heapify(waiting)
    members, chosen = dict[int, list[int]](), list[int]()
    while waiting and len(chosen) < count:
        is_small, known, size, cluster = heapq.heappop(waiting)
        if cluster not in members:
            members[cluster] = _most_typical_last(features_ND, assigned_N == cluster, is_known_N, neighbours)
        chosen.append(members[cluster].pop())
        if members[cluster]:
            heapq.heappush(waiting, (is_small, known + 1, size, cluster))
    return torch.tensor(chosen, dtype=torch.int64)


def typicality(features_ND: Tensor, neighbours: int) -> Tensor:
    """Inverse mean Euclidean distance to the nearest neighbours among these images.

    Args:
        features_ND: features of one cluster.
        neighbours: neighbours counted; with fewer others at hand, all of them.
    Returns:
        typicality_N > 0; 1 for a single image.
    References: Hacohen, Dekel and Weinshall 2022, equation 4.
    """
    check_shape("features_ND", features_ND.shape, ("N", "D"))
    others = min(neighbours, len(features_ND) - 1)
    if others < 1:
        return features_ND.new_ones(len(features_ND))
    means = list[Tensor]()
    for part in chunk_slices(len(features_ND), max(1, _BLOCK_NUMBERS // len(features_ND))):
        gaps_BN = torch.cdist(features_ND[part], features_ND)
        rows = torch.arange(part.start, part.stop)
        gaps_BN[rows - part.start, rows] = torch.inf  # nobody is its own neighbour
        means.append(gaps_BN.topk(others, dim=1, largest=False).values.mean(1))
    return 1 / torch.cat(means).clamp(min=_NO_GAP)


def _most_typical_last(features_ND: Tensor, is_member_N: Tensor, is_known_N: Tensor, neighbours: int) -> list[int]:
    positions = is_member_N.nonzero().squeeze(1)
    typical = typicality(features_ND[positions], neighbours)
    order = positions[torch.sort(typical, descending=True, stable=True).indices]
    best_first: list[int] = order[~is_known_N[order]].tolist()
    return best_first[::-1]


def typical_of_drawn(
    scored: Scored, batch: int, count: int, *, by_looks: bool, most_images: int, **parameters: int
) -> Tensor:
    """Cluster the labelled images and at most ``most_images`` of the pool, and choose among those by ``typiclust``.

    Args:
        scored: the pool.
        batch: as in ``typiclust``.
        count: as in ``typiclust``.
        by_looks: cluster what images look like, in place of the network's features.
        most_images: bound of the open images that are clustered; of more, a drawn part.
        parameters: those of ``typiclust``.
    Returns:
        positions in the pool, int64, in the order chosen.
    """
    shuffled = torch.randperm(len(scored.scores_N), generator=scored.generator)
    drawn = shuffled[:most_images].sort().values
    if by_looks:
        everyone_ND = scored.looks_at(drawn)
    else:
        everyone_ND = torch.cat([scored.seen_features[drawn], scored.known_features])
    is_labelled = torch.ones(len(everyone_ND) - len(drawn), dtype=torch.bool)
    is_known_N = torch.cat([scored.pending_N[drawn], is_labelled])
    return drawn[typiclust(everyone_ND, is_known_N, batch, count, scored.generator, **parameters)]


def _select(scored: Scored) -> Tensor:
    """Choose typical images; whoever was not clustered follows by score."""
    parameters = dict(scored.parameters)
    by_looks = parameters.pop("see") == "looks"
    numbers = {name: int(value) for name, value in parameters.items()}
    chosen = typical_of_drawn(scored, scored.batch, scored.count, by_looks=by_looks, **numbers)
    scored.note_typical(chosen)
    taken_N = scored.pending_N.clone()
    taken_N[chosen] = True
    return torch.cat([chosen, top_k(scored.scores_N, taken_N, scored.count - len(chosen))])


SELECTIONS.add("typiclust", Selection(_select, needs_features=True, needs_labelled=True, needs_looks=True))
