"""k-means in plain torch: the same clusters in every process, in flat memory, any number of distinct points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from worker.learning.errors import NotFiniteError, check_shape
from worker.learning.pool import chunk_slices

# Numbers of the points that are looked at together: measured, as many as stay in the CPU's second cache.
_BLOCK_NUMBERS = 2**18


@dataclass(frozen=True)
class Clusters:
    """``centres_KD``, and per point the cluster ``assigned_N`` (int64) with its squared distance ``squares_N``."""

    centres_KD: Tensor
    assigned_N: Tensor
    squares_N: Tensor


def k_means(
    points_ND: Tensor, count: int, generator: Generator, *, most_passes: int = 30, tolerance: float = 1e-4
) -> Clusters:
    """Lloyd's algorithm from k-means++ seeds, until the centres rest or ``most_passes`` are over.

    A cluster that loses all its points begins anew at the point that is farthest from its centre.

    Args:
        points_ND: finite points on the CPU.
        count: clusters K wanted; with fewer distinct points, as many as those.
        generator: source of the seeds.
        most_passes: bound of the passes over the points.
        tolerance: squares that all centres together may still move by, as a share of the points' mean variance.
    Returns:
        at most ``count`` clusters; none without points. The distances are those to the centres of the last pass but
        for the final means, so the last assignment is optimal for the centres returned.
    Raises:
        ShapeError: not two axes.
        NotFiniteError: a point that is NaN or infinite.
        ValueError: fewer than one cluster wanted.
    References: Lloyd 1982; Arthur and Vassilvitskii 2007.
    """
    check_shape("points_ND", points_ND.shape, ("N", "D"))
    if count < 1:
        raise ValueError(f"count: {count} clusters cannot be made")
    if not bool(torch.isfinite(points_ND).all()):
        raise NotFiniteError("points_ND: a point is NaN or infinite")
    if not len(points_ND):
        return Clusters(points_ND[:0], torch.empty(0, dtype=torch.int64), points_ND.new_empty(0))
    # Inner products lose fewer digits around the origin.
    middle_D = points_ND.mean(0)
    moved_ND = points_ND - middle_D
    centres_KD = moved_ND[_seeds(moved_ND, count, generator)]
    lengths_N = moved_ND.square().sum(1)
    rest = tolerance * float(lengths_N.mean()) / max(points_ND.shape[1], 1)
    assigned_N, squares_N = _nearest(moved_ND, lengths_N, centres_KD)
    heaps = _Heaps(moved_ND, assigned_N, len(centres_KD))
    for _ in range(most_passes):
        before_KD, before_N = centres_KD, assigned_N
        centres_KD = heaps.means(squares_N)
        assigned_N, squares_N = _nearest(moved_ND, lengths_N, centres_KD)
        heaps.move(before_N, assigned_N)
        if float((centres_KD - before_KD).square().sum()) <= rest or torch.equal(before_N, assigned_N):
            break
    return Clusters(centres_KD + middle_D, assigned_N, squares_N)


def draw_by_weight(weights_N: Tensor, generator: Generator) -> int:
    """Draw one position with probability proportional to its weight, none of them negative and their sum above 0."""
    sums_N = weights_N.double().cumsum(0)
    at = torch.rand((), generator=generator, dtype=torch.float64) * sums_N[-1]
    # Right of an equal sum: a position without weight is never drawn.
    return min(int(torch.searchsorted(sums_N, at, right=True)), int(weights_N.nonzero()[-1]))


def squared_gaps(points_ND: Tensor, point_D: Tensor) -> Tensor:
    """Squared Euclidean distances_N to one point, exactly 0 for an equal one."""
    return torch.cdist(points_ND, point_D[None], compute_mode="donot_use_mm_for_euclid_dist").squeeze(1).square_()


def _seeds(points_ND: Tensor, count: int, generator: Generator) -> Tensor:
    """Positions of at most ``count`` distinct points, each drawn with its squared distance to those before it."""
    chosen = [int(torch.randint(len(points_ND), (), generator=generator))]
    squares_N = squared_gaps(points_ND, points_ND[chosen[0]])
    while len(chosen) < count and bool(squares_N.any()):
        chosen.append(draw_by_weight(squares_N, generator))
        torch.minimum(squares_N, squared_gaps(points_ND, points_ND[chosen[-1]]), out=squares_N)
    return torch.tensor(chosen)


def _nearest(points_ND: Tensor, lengths_N: Tensor, centres_KD: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest centre of each point, the first of equally near ones, and its squared distance."""
    squares_K = centres_KD.square().sum(1)
    assigned_N = torch.empty(len(points_ND), dtype=torch.int64)
    squares_N = torch.empty_like(lengths_N)
    for part in chunk_slices(len(points_ND), max(1, _BLOCK_NUMBERS // max(points_ND.shape[1], len(centres_KD)))):
        gaps_KB = torch.addmm(squares_K[:, None], centres_KD, points_ND[part].T, alpha=-2)
        torch.min(gaps_KB, dim=0, out=(squares_N[part], assigned_N[part]))
    return assigned_N, squares_N.add_(lengths_N).clamp_(min=0)


class _Heaps:
    """Sum and number of the points of each cluster, brought up to date by the points that change over alone."""

    def __init__(self, points_ND: Tensor, assigned_N: Tensor, count: int) -> None:
        self._points_ND = points_ND
        # What is added and taken away again in float64 leaves nothing behind.
        sums_KD = torch.zeros(count, points_ND.shape[1], dtype=torch.float64)
        self._sums_KD = sums_KD.index_add_(0, assigned_N, points_ND.double())
        self._sizes_K = assigned_N.bincount(minlength=count)

    def move(self, before_N: Tensor, after_N: Tensor) -> None:
        """Let points change their cluster."""
        moved = (before_N != after_N).nonzero().squeeze(1)
        points_MD = self._points_ND[moved].double()
        self._sums_KD.index_add_(0, after_N[moved], points_MD).index_add_(0, before_N[moved], points_MD, alpha=-1)
        self._sizes_K = after_N.bincount(minlength=len(self._sizes_K))

    def means(self, squares_N: Tensor) -> Tensor:
        """Return the centres; an empty cluster begins anew at the point that is farthest from its own."""
        empty = (self._sizes_K == 0).nonzero().squeeze(1)
        means_KD = (self._sums_KD / self._sizes_K.clamp(min=1)[:, None]).to(self._points_ND.dtype)
        if len(empty):
            farthest = torch.sort(squares_N, descending=True, stable=True).indices[: len(empty)]
            means_KD[empty] = self._points_ND[farthest]
        return means_KD
