"""A hedge: part of the batch by score, part by looks, so that what the network is wrongly sure of is asked as well."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from worker.learning.selections.base import SELECTIONS, Scored, Selection
from worker.learning.selections.cluster_margin import cluster_margin
from worker.learning.selections.top_k import top_k
from worker.learning.selections.typiclust import typical_of_drawn


def part_of(batch: int, share: float, generator: Generator) -> int:
    """Return ``share`` of a batch in whole images: what is left over becomes one image by chance, so the mean holds."""
    return math.floor(batch * share + float(torch.rand((), generator=generator, dtype=torch.float64)))


def share_by_looks(labels_per_class: float, share: float, looks_until: float) -> float:
    """Return the part of a batch that looks choose: all of it without labels, falling evenly to ``share``.

    Args:
        labels_per_class: labels there are for each class, on average.
        share: the part that stays from ``looks_until`` on, in [0, 1].
        looks_until: labels for each class at which it is reached; at 0 it is ``share`` from the beginning.
    """
    way = min(labels_per_class / looks_until, 1.0) if looks_until else 1.0
    return 1 - way * (1 - share)


def alternate(first: Tensor, second: Tensor) -> Tensor:
    """Return all of both, each in its order and as evenly among the other as can be; ``first`` leads a tie."""
    places = [torch.arange(len(part), dtype=torch.float64).add(0.5) / max(len(part), 1) for part in (first, second)]
    return torch.cat([first, second])[torch.sort(torch.cat(places), stable=True).indices]


def _select(scored: Scored) -> Tensor:
    """Choose by looks first, as these clusters are the same whatever the scores; then by score among the others."""
    parameters = scored.parameters
    least, until, widen = (float(parameters[name]) for name in ("share", "looks_until", "widen"))
    share = share_by_looks(scored.labels_per_class, least, until)
    by_looks = part_of(scored.batch, share, scored.generator)
    typical = torch.empty(0, dtype=torch.int64)
    if by_looks:
        most_images = int(parameters["most_images"])
        typical = typical_of_drawn(scored, by_looks, by_looks, by_looks=True, most_images=most_images)
        scored.note_typical(typical)
    taken_N = scored.pending_N.clone()
    taken_N[typical] = True
    scores_N, by_score, count = scored.scores_N, scored.batch - len(typical), scored.count - len(typical)
    if by_score:
        ranked = cluster_margin(
            scores_N, scored.seen_features, taken_N, count, scored.generator, batch=by_score, widen=widen
        )
    else:
        ranked = top_k(scores_N, taken_N, count)
    return torch.cat([alternate(ranked[:by_score], typical), ranked[by_score:]])


SELECTIONS.add("hedge", Selection(_select, needs_features=True, needs_looks=True))
