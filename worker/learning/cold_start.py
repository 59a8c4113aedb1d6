"""Which images to label first, before there is a network to ask: the most typical ones of clusters of looks."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from worker.learning.looks import looks
from worker.learning.pool import Images, Rows
from worker.learning.selections.typiclust import typiclust

MOST_IMAGES = 20_000


def typical_positions(images_NHWC: Images, rows: Rows, batch: int, count: int, generator: Generator) -> Tensor:
    """Positions in ``rows`` of the images to label first: the most typical one of each of ``batch`` clusters, and on.

    k-means on 20 principal components of the edges, and less of the pixels, of at most 20,000 images. Of MNIST, the
    first 20 images then showed all ten digits in nine draws of ten; by 40 components of the pixels, in four of six.

    Args:
        images_NHWC: uint8, in memory or memory-mapped.
        rows: int64 rows to choose from.
        batch: clusters wanted, as many as there will be first labels.
        count: images wanted; with fewer at hand, all of them.
        generator: source of the draws.
    Returns:
        positions, int64, best first; images beyond the 20,000 follow in a drawn order.
    References: Hacohen, Dekel and Weinshall 2022 (typical images first when there are few labels).
    """
    shuffled = torch.randperm(len(rows), generator=generator)
    seen = shuffled[:MOST_IMAGES].sort().values
    points_ND = looks(images_NHWC, rows[seen.numpy()], generator)
    nothing_known = torch.zeros(len(seen), dtype=torch.bool)
    chosen = seen[typiclust(points_ND, nothing_known, batch, count, generator)]
    return torch.cat([chosen, shuffled[MOST_IMAGES:]])[:count]
