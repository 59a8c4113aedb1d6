"""What a pool looks like to people: the mean image of each cluster, and how sure the network is of all of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator

from worker.learning.clustering import k_means
from worker.learning.errors import NotFiniteError, ShapeError
from worker.learning.pool import Images, Rows, chunk_slices

MOST_IMAGES = 20_000
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Centroids:
    """Mean images of K clusters of pixels, the largest first, and which cluster each of M rows is in."""

    images_KHWC: Images
    rows_M: Rows
    assigned_M: Rows


@dataclass(frozen=True)
class ConfidenceCurve:
    """Confidences of a pool from the surest image to the least sure, at P evenly spaced shares of it.

    ``precisions_P`` is the share of right predictions among the images at least that sure; None without truth.
    """

    shares_P: np.ndarray
    confidences_P: np.ndarray
    precisions_P: np.ndarray | None


def pixel_centroids(images_NHWC: Images, rows: Rows, count: int, generator: Generator) -> Centroids:
    """k-means on the pixels of rows, of at most 20,000 of them drawn uniformly.

    Args:
        images_NHWC: uint8, in memory or memory-mapped.
        rows: int64 rows of the pool.
        count: clusters wanted; with fewer distinct images, as many as those.
        generator: source of the draws.
    Raises:
        ValueError: no rows, or fewer than one cluster wanted.
    References: source E (ten centroids as pictures).
    """
    if not len(rows):
        raise ValueError("there are no images to cluster")
    drawn = torch.randperm(len(rows), generator=generator)[:MOST_IMAGES].sort().values
    seen = rows[drawn.numpy()]
    points_MD = torch.empty(len(seen), images_NHWC[0].size)
    for part in chunk_slices(len(seen), _ROWS_AT_ONCE):
        points_MD[part] = torch.from_numpy(np.asarray(images_NHWC[seen[part]])).flatten(1).float()
    clusters = k_means(points_MD, count, generator)
    sizes_K = clusters.assigned_N.bincount(minlength=len(clusters.centres_KD))
    order_K = torch.sort(sizes_K, descending=True, stable=True).indices
    pictures = clusters.centres_KD[order_K].round().clamp(0, 255).to(torch.uint8).numpy()
    place_K = torch.empty_like(order_K)
    place_K[order_K] = torch.arange(len(order_K))
    return Centroids(pictures.reshape(-1, *images_NHWC.shape[1:]), seen, place_K[clusters.assigned_N].numpy())


def confidence_curve(confidences_N: np.ndarray, is_right_N: np.ndarray | None, points: int = 201) -> ConfidenceCurve:
    """Sort confidences and thin them out, so that the curve of any pool is small.

    Args:
        confidences_N: probability given to the likeliest class.
        is_right_N: whether that class is the true one, if known.
        points: P, two or more; the first is the surest image, the last the least sure.
    Raises:
        ShapeError: other lengths, or no images.
        NotFiniteError: a confidence that is NaN or infinite.
    References: source E (confidence of the whole pool, sorted).
    """
    count = len(confidences_N)
    if confidences_N.ndim != 1 or not count:
        raise ShapeError("confidences_N", ("N >= 1",), confidences_N.shape)
    if is_right_N is not None and is_right_N.shape != confidences_N.shape:
        raise ShapeError("is_right_N", confidences_N.shape, is_right_N.shape)
    if not np.isfinite(confidences_N).all():
        raise NotFiniteError("confidences_N: a confidence is NaN or infinite")
    order_N = np.argsort(-confidences_N, kind="stable")
    at_P = np.linspace(0, count - 1, points).round().astype(np.int64)
    precisions_P = None
    if is_right_N is not None:
        precisions_P = (np.cumsum(is_right_N[order_N]) / np.arange(1, count + 1))[at_P]
    return ConfidenceCurve((at_P + 1) / count, confidences_N[order_N][at_P].astype(np.float64), precisions_P)
