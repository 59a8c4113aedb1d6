"""What can be said about images before there is a network: their pixels, and the clusters that these form."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional

from worker.learning.pool import Images, Rows, chunk_slices, normalise, take
from worker.learning.selections.typiclust import typiclust

COMPONENTS = 40
MOST_IMAGES = 20_000
LARGEST_SIDE = 32
_SPARE_DIRECTIONS = 16
_POWER_PASSES = 4
_ROWS_AT_ONCE = 1024


def plain_features(images_NHWC: Images, rows: Rows) -> Tensor:
    """Pixels of rows as features, each image's own mean taken off, so that the cosine of two is their correlation.

    Args:
        images_NHWC: uint8, in memory or memory-mapped.
        rows: int64 rows to read, in this order.
    Returns:
        features_ND, float32; D is the pixels and channels at 32 a side, or fewer if the images are smaller.
    """
    channels, side = images_NHWC.shape[3], min(images_NHWC.shape[1], LARGEST_SIDE)
    features_ND = torch.empty(len(rows), channels * side**2)
    for part in chunk_slices(len(rows), _ROWS_AT_ONCE):
        images_NCHW = normalise(take(images_NHWC, rows[part], torch.device("cpu")))
        pixels_ND = functional.adaptive_avg_pool2d(images_NCHW, side).flatten(1)
        features_ND[part] = pixels_ND - pixels_ND.mean(1, keepdim=True)
    return features_ND


def principal_components(points_ND: Tensor, count: int, generator: Generator) -> Tensor:
    """Coordinates of points along their directions of largest spread, by a randomised subspace iteration.

    Args:
        points_ND: float points.
        count: components wanted; at most as many as there are points or axes.
        generator: source of the first subspace.
    Returns:
        coordinates, [N, at most ``count``], the largest spread first; distances between rows are those between points
        but for what the remaining directions add.
    References: Halko, Martinsson and Tropp 2011, algorithm 4.4.
    """
    if not len(points_ND):
        return points_ND[:, :0]
    moved_ND = points_ND - points_ND.mean(0)
    count = min(count, *moved_ND.shape)
    width = min(count + _SPARE_DIRECTIONS, *moved_ND.shape)
    directions = torch.randn(moved_ND.shape[1], width, generator=generator, dtype=moved_ND.dtype)
    for _ in range(_POWER_PASSES):
        directions = torch.linalg.qr(moved_ND.T @ (moved_ND @ directions)).Q
    coordinates = moved_ND @ directions
    _, _, turned = torch.linalg.svd(coordinates.T @ coordinates)
    components: Tensor = coordinates @ turned[:count].T
    return components


def typical_positions(images_NHWC: Images, rows: Rows, batch: int, count: int, generator: Generator) -> Tensor:
    """Positions in ``rows`` of the images to label first: the most typical one of each of ``batch`` clusters, and on.

    k-means on 40 principal components of the pixels of at most 20,000 images.

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
    points_ND = principal_components(plain_features(images_NHWC, rows[seen.numpy()]), COMPONENTS, generator)
    nothing_known = torch.zeros(len(seen), dtype=torch.bool)
    chosen = seen[typiclust(points_ND, nothing_known, batch, count, generator)]
    return torch.cat([chosen, shuffled[MOST_IMAGES:]])[:count]
