"""What can be said about images without any network: their pixels and their edges, and where these vary most."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

from worker.learning.pool import Images, Rows, chunk_slices, normalise, take

_LARGEST_SIDE = 32
_COMPONENTS = 20
_SPARE_DIRECTIONS = 16
_POWER_PASSES = 4
_ROWS_AT_ONCE = 256  # measured: four times as many leave the caches, and photos of 64 pixels take 2.4 times as long
_DIRECTIONS = 8
_CELL_PIXELS, _LEAST_CELLS = 4, 4
_PIXELS_BESIDE_EDGES = 0.3
_FAINTEST_EDGE = 1e-4  # of full scale: rounding, not an edge


def looks(images_NHWC: Images, rows: Rows, generator: Generator) -> Tensor:
    """What images look like: 20 principal components of their edges, and less of their pixels.

    Pixels are for classes that differ in brightness or colour rather than in shape.

    Args:
        images_NHWC: uint8, in memory or memory-mapped.
        rows: int64 rows to read; the directions are those of these images together.
        generator: source of the first subspace.
    Returns:
        points_ND, float32; D is 20, or fewer for fewer images.
    """
    pixels_ND = functional.normalize(plain_features(images_NHWC, rows), dim=1)
    seen_ND = torch.cat([edge_features(images_NHWC, rows), _PIXELS_BESIDE_EDGES * pixels_ND], dim=1)
    return principal_components(seen_ND, _COMPONENTS, generator)


def plain_features(images_NHWC: Images, rows: Rows) -> Tensor:
    """Pixels of rows as features, each image's own mean taken off, so that the cosine of two is their correlation.

    Args:
        images_NHWC: uint8, in memory or memory-mapped.
        rows: int64 rows to read, in this order.
    Returns:
        features_ND, float32; D is the pixels and channels at 32 a side, or fewer if the images are smaller.
    """
    channels, side = images_NHWC.shape[3], min(images_NHWC.shape[1], _LARGEST_SIDE)
    features_ND = torch.empty(len(rows), channels * side**2)
    for part in chunk_slices(len(rows), _ROWS_AT_ONCE):
        images_NCHW = normalise(take(images_NHWC, rows[part], torch.device("cpu")))
        pixels_ND = functional.adaptive_avg_pool2d(images_NCHW, side).flatten(1)
        features_ND[part] = pixels_ND - pixels_ND.mean(1, keepdim=True)
    return features_ND


def edge_features(images_NHWC: Images, rows: Rows) -> Tensor:
    """Where in an image edges run in which direction: for each cell of a grid, edge strength in 8 directions.

    They hardly change when a stroke is thicker or moved a little, so their clusters keep closer to classes than those
    of pixels.

    Args:
        images_NHWC: uint8, in memory or memory-mapped.
        rows: int64 rows to read, in this order.
    Returns:
        features_ND, float32, of unit length (zeros for an image without any edge); square roots of the shares, so that
        a few strong edges do not decide alone. Cells are about 4 pixels wide at no more than 32 a side.
    References: Dalal and Triggs 2005 (histograms of gradients); Arandjelovic and Zisserman 2012 (square roots).
    """
    side = min(images_NHWC.shape[1], _LARGEST_SIDE)
    cells = max(_LEAST_CELLS, side // _CELL_PIXELS)
    features_ND = torch.empty(len(rows), _DIRECTIONS * cells**2)
    for part in chunk_slices(len(rows), _ROWS_AT_ONCE):
        images_NCHW = normalise(take(images_NHWC, rows[part], torch.device("cpu")))
        grey_N1HW = functional.adaptive_avg_pool2d(images_NCHW, side).mean(1, keepdim=True)
        shares_ND = functional.adaptive_avg_pool2d(_edges(grey_N1HW), cells).flatten(1)
        features_ND[part] = functional.normalize(shares_ND.sqrt(), dim=1)
    return features_ND


def _edges(grey_N1HW: Tensor) -> Tensor:
    """Edge strength of every pixel, shared out between the two nearest of the directions: [N, directions, H, W]."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    framed = functional.pad(grey_N1HW, (1, 1, 1, 1), mode="replicate")
    slopes_N2HW = functional.conv2d(framed, torch.stack((across, across.T)).unsqueeze(1))
    # Measured: the norm over an axis of two takes ten times as long.
    strength_N1HW = functional.threshold(torch.hypot(slopes_N2HW[:, :1], slopes_N2HW[:, 1:]), _FAINTEST_EDGE, 0.0)
    turn_N1HW = torch.atan2(slopes_N2HW[:, 1:], slopes_N2HW[:, :1]) * (_DIRECTIONS / (2 * math.pi))
    directions_D11 = torch.arange(_DIRECTIONS)[:, None, None]
    apart_NDHW = (turn_N1HW - directions_D11 + _DIRECTIONS / 2) % _DIRECTIONS - _DIRECTIONS / 2
    shared_NDHW: Tensor = strength_N1HW * (1 - apart_NDHW.abs()).clamp_min(0)
    return shared_NDHW


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
