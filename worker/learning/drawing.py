"""From an order of images to the ranking that is asked: a uniform share is mixed in, near duplicates are left out.

Works on positions in the candidates. What is in the order is the selections' business; images and rows the learner's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from worker.learning.errors import NotFiniteError, check_shape
from worker.learning.pool import chunk_slices

# Each refill asks for twice as many as the one before: enough for a pool of mostly copies, and an end for one of only.
_MOST_REFILLS = 8
_DUPLICATES_AT_ONCE = 512

Order = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Draws:
    """A ranking of K images: ``positions_K``, ``is_random_K`` (drawn uniformly) and ``propensities_K`` or None."""

    positions_K: Tensor
    is_random_K: Tensor
    propensities_K: Tensor | None


@dataclass(frozen=True)
class Mixing:
    """How the ranking departs from an order.

    ``share`` of the draws are uniform. The order itself is a draw by exp(``logits_N``), uniform if all are equal, or
    decided if there are none; ``is_uniform`` says that it is a uniform draw already. ``features_of`` returns features
    at positions; images whose features have a cosine of ``similarity`` or more are near duplicates; 1 allows them.
    """

    share: float
    logits_N: Tensor | None
    is_uniform: bool
    features_of: Callable[[Tensor], Tensor]
    similarity: float


def draw_ranking(order: Order, total: int, count: int, mixing: Mixing, generator: Generator) -> Draws:
    """Rank ``count`` of ``total`` images, or all that there are but near duplicates of those ranked before them.

    At each rank a coin of chance ``share`` decides whether the next image is drawn uniformly from all that were not
    drawn yet, or is the next of the order. The propensity of an image is the chance that it was drawn at its rank,
    given those drawn before it (near duplicates that were left out among them), and given the order's own draw if the
    chances of that are not known: share / images left + (1 - share) x its chance in the order.

    Args:
        order: given a mask of positions that must not come and a number, the best that many positions.
        total: number of candidates N.
        count: K, the images wanted.
        mixing: the share, and what near duplicates are.
        generator: source of the coins and the uniform draws.
    Returns:
        the ranking; propensities are None where nothing was drawn.
    Raises:
        NotFiniteError: a feature that is NaN or infinite.
    References: Farquhar, Gal and Rainforth 2021 (propensities of sequential draws and what they correct).
    """
    share = 0.0 if mixing.is_uniform else mixing.share
    uniform = iter(torch.randperm(total, generator=generator).tolist() if share else ())
    taken_N = torch.zeros(total, dtype=torch.bool)
    distinct = Distinct(mixing.similarity)
    drawn, kept = list[_Draw](), list[int]()
    for refill in range(_MOST_REFILLS):
        wanted = min((count - len(kept)) * 2**refill, total - len(drawn))
        if wanted <= 0:
            break
        fresh = list(_merge(order(taken_N.clone(), wanted).tolist(), uniform, taken_N, share, generator))
        admitted = [True] * len(fresh)
        if mixing.similarity < 1 and fresh:
            admitted = distinct.admit(mixing.features_of(torch.tensor([draw.position for draw in fresh])))
        kept += [len(drawn) + place for place, is_kept in enumerate(admitted) if is_kept]
        drawn += fresh
    kept = kept[:count]
    positions = torch.tensor([draw.position for draw in drawn], dtype=torch.int64)
    is_random = torch.tensor([draw.is_random or mixing.is_uniform for draw in drawn], dtype=torch.bool)
    is_drawn = mixing.is_uniform or bool(share) or mixing.logits_N is not None
    propensities = _propensities(drawn, positions, total, share, mixing) if is_drawn else None
    return Draws(positions[kept], is_random[kept], None if propensities is None else propensities[kept])


class Distinct:
    """Remembers features of images that were admitted and refuses those too similar to one of them."""

    def __init__(self, similarity: float) -> None:
        self._similarity = similarity
        self._known_KD: Tensor | None = None

    def admit(self, features_ND: Tensor) -> list[bool]:
        """Say for each image, in order, whether its cosine with every one admitted before is under the threshold.

        An image whose features are all zero is like no other.

        Raises:
            ShapeError: not two axes.
            NotFiniteError: a feature that is NaN or infinite.
        """
        check_shape("features_ND", features_ND.shape, ("N", "D"))
        if not bool(torch.isfinite(features_ND).all()):
            raise NotFiniteError("features_ND: a feature is NaN or infinite")
        units_ND = functional.normalize(features_ND.float(), dim=1)
        admitted = list[bool]()
        for part in chunk_slices(len(units_ND), _DUPLICATES_AT_ONCE):
            admitted += self._admit_some(units_ND[part])
        return admitted

    def _admit_some(self, units_ND: Tensor) -> list[bool]:
        known_KD = units_ND[:0] if self._known_KD is None else self._known_KD
        is_new_N = torch.ones(len(units_ND), dtype=torch.bool)
        for part in chunk_slices(len(known_KD), 8 * _DUPLICATES_AT_ONCE):
            is_new_N &= (units_ND @ known_KD[part].T < self._similarity).all(1)
        is_alike_NN = (units_ND @ units_ND.T >= self._similarity).tril(-1)
        for row in is_alike_NN.any(1).nonzero().squeeze(1).tolist():
            is_new_N[row] &= not bool((is_alike_NN[row] & is_new_N).any())
        self._known_KD = torch.cat([known_KD, units_ND[is_new_N]])
        admitted: list[bool] = is_new_N.tolist()
        return admitted


@dataclass(frozen=True)
class _Draw:
    position: int
    is_random: bool
    is_next: bool  # of the order


def _merge(
    ordered: list[int], uniform: Iterator[int], taken_N: Tensor, share: float, generator: Generator
) -> Iterator[_Draw]:
    """Draw as many images as the order has; marks them in ``taken_N``.

    The first of a uniform permutation that is not taken is uniform among all that are not, whatever was taken before.
    """
    coins = (torch.rand(len(ordered), generator=generator, dtype=torch.float64) < share).tolist()
    rest = iter(ordered)
    following = next(rest, None)
    for is_random in coins:
        while following is not None and taken_N[following]:
            following = next(rest, None)
        if following is None:
            return
        position = next(one for one in uniform if not taken_N[one]) if is_random else following
        taken_N[position] = True
        yield _Draw(position, is_random, position == following)


def _propensities(drawn: list[_Draw], positions: Tensor, total: int, share: float, mixing: Mixing) -> Tensor:
    left = total - torch.arange(len(drawn), dtype=torch.float64)
    if mixing.is_uniform:
        return 1 / left
    if mixing.logits_N is None:
        by_order = torch.tensor([draw.is_next for draw in drawn], dtype=torch.float64)
    else:
        logits_N = mixing.logits_N.double()
        never = torch.ones(total, dtype=torch.bool)
        never[positions] = False
        # Sums of the weights that were left at each draw, from the last one back: nothing is ever subtracted.
        backwards = torch.cat([logits_N[never].logsumexp(0, keepdim=True), logits_N[positions].flip(0)])
        by_order = (logits_N[positions] - backwards.logcumsumexp(0)[1:].flip(0)).exp()
    return share / left + (1 - share) * by_order
