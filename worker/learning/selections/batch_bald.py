"""BatchBALD: the batch whose answers together say most about the parameters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from app.errors import RecipeError
from worker.learning.errors import NotFiniteError, ShapeError
from worker.learning.pool import chunk_slices
from worker.learning.selections.base import SELECTIONS, Scored, Selection
from worker.learning.selections.top_k import top_k

_BLOCK_NUMBERS = 2**22
_MOST_TOGETHER = 128


@dataclass(frozen=True)
class _Answers:
    """Possible answers to the images chosen so far: M configurations, their chances, and what each teaches.

    ``chances_M`` sum to 1. ``weights_MS`` are the posterior over the S samples once a configuration is known, so its
    rows sum to 1 and nothing underflows however long the batch. All float64.
    """

    chances_M: Tensor
    weights_MS: Tensor

    @classmethod
    def none_yet(cls, samples: int) -> _Answers:
        return cls(torch.ones(1, dtype=torch.float64), torch.full((1, samples), 1 / samples, dtype=torch.float64))

    def gains(self, probs_SNC: Tensor, own_SN: Tensor) -> Tensor:
        """Information_N between one more answer and the parameters, averaged over the configurations, in nats.

        The entropies ``own_SN`` of the samples are weighed as the configurations at hand weigh them. That is their mean
        if these are all, and keeps the estimate from below 0 if they were drawn.
        """
        _, images, classes = probs_SNC.shape
        flat = probs_SNC.flatten(1)
        gains_N = -(self.chances_M @ self.weights_MS) @ own_SN
        for rows in chunk_slices(len(self.chances_M), max(1, _BLOCK_NUMBERS // max(1, images * classes))):
            probs_MNC = (self.weights_MS[rows] @ flat).view(-1, images, classes)
            gains_N -= torch.einsum("m,mnc->n", self.chances_M[rows], torch.xlogy(probs_MNC, probs_MNC))
        return gains_N

    def extended(self, probs_SC: Tensor, most: int, generator: Generator) -> _Answers:
        """Answers with one image more: all of them, or ``most`` drawn by their chances if there were more."""
        given_MC = self.weights_MS @ probs_SC
        chances = (self.chances_M[:, None] * given_MC).flatten()
        kept = chances.nonzero().squeeze(1)
        if len(kept) <= most:
            chances_M = chances[kept] / chances[kept].sum()
        else:
            # Systematic draws: one uniform number for all, so each comes as often as expected, give or take one.
            places = (torch.arange(most) + torch.rand((), generator=generator, dtype=torch.float64)) / most
            sums = chances[kept].cumsum(0)
            kept = kept[torch.searchsorted(sums, places * sums[-1], right=True).clamp(max=len(kept) - 1)]
            chances_M = torch.full((most,), 1 / most, dtype=torch.float64)
        before, answer = kept // probs_SC.shape[1], kept % probs_SC.shape[1]
        weights_MS = self.weights_MS[before] * probs_SC[:, answer].T
        return _Answers(chances_M, weights_MS / weights_MS.sum(1, keepdim=True))


def batch_bald(
    log_probs_SNC: Tensor, count: int, generator: Generator, *, configurations: int = 4000
) -> tuple[Tensor, Tensor]:
    """Greedy maximum of the mutual information between the answers to a batch and the parameters.

    The next image is the one whose answer says most on top of those before it: I(y_n; theta | y_1 .. y_b), which is
    the difference that it makes to the joint mutual information. It is exact while the chosen images have at most
    ``configurations`` joint answers and estimated over so many draws of them beyond. What an image adds never grows
    as the batch does (submodularity), so an image is looked at again only if what it once added could still win.

    Args:
        log_probs_SNC: log-softmax of S >= 2 posterior samples.
        count: B, the images wanted; with fewer at hand, all of them.
        generator: source of the draws.
        configurations: joint answers that are kept.
    Returns:
        positions_B, int64, in the order chosen (the first of equals), and gains_B in nats, float64; their sum is the
        batch's joint mutual information.
    Raises:
        ShapeError: not three axes, fewer than two samples or fewer than two classes.
        NotFiniteError: a probability that is NaN or infinite.
    References: Kirsch, van Amersfoort and Gal 2019, algorithm 1; Minoux 1978 (lazy greedy).
    """
    if log_probs_SNC.ndim != 3 or log_probs_SNC.shape[0] < 2 or log_probs_SNC.shape[2] < 2:
        raise ShapeError("log_probs_SNC", ("S >= 2", "N", "C >= 2"), log_probs_SNC.shape)
    probs_SNC = log_probs_SNC.double().exp()
    if not bool(torch.isfinite(probs_SNC).all()):
        raise NotFiniteError("log_probs_SNC: a probability is NaN or infinite")
    own_SN = -torch.xlogy(probs_SNC, probs_SNC).sum(2)
    bounds_N = torch.full_like(own_SN[0], torch.inf)
    answers, chosen, gains = _Answers.none_yet(len(probs_SNC)), list[int](), list[float]()
    for _ in range(min(count, len(bounds_N))):
        best = _most_informative(answers, probs_SNC, own_SN, bounds_N)
        chosen.append(best)
        gains.append(float(bounds_N[best]))
        bounds_N[best] = -torch.inf
        answers = answers.extended(probs_SNC[:, best], configurations, generator)
    return torch.tensor(chosen, dtype=torch.int64), torch.tensor(gains, dtype=torch.float64)


def _most_informative(answers: _Answers, probs_SNC: Tensor, own_SN: Tensor, bounds_N: Tensor) -> int:
    """Position of the largest gain; ``bounds_N`` come from earlier answers and are replaced by what was found now."""
    order = torch.sort(bounds_N, descending=True, stable=True).indices
    order = order[bounds_N[order] > -torch.inf]
    best, most, start = -1, -torch.inf, 0
    while start < len(order) and (best < 0 or float(bounds_N[order[start]]) >= most):
        unknown = bool(torch.isinf(bounds_N[order[start]]))
        looked = order[start:] if unknown else order[start : start + _MOST_TOGETHER]
        for some in chunk_slices(len(looked), _MOST_TOGETHER):
            part = looked[some]
            gains = answers.gains(probs_SNC[:, part], own_SN[:, part])
            bounds_N[part] = gains
            highest = float(gains.max())
            first = int(part[gains == highest].min())
            if highest > most or (highest == most and first < best):
                best, most = first, highest
        start += len(looked)
    return best


def _select(scored: Scored) -> Tensor:
    """Choose the batch among the highest scores; the reserve follows by score."""
    shortlist = top_k(scored.scores_N, scored.pending_N, max(int(scored.parameters["shortlist"]), scored.batch))
    if not len(shortlist) or not scored.count:
        return shortlist[:0]
    if scored.read_log_probs is None:
        raise ValueError("this selection needs posterior samples, and was given none")
    # In order of position, so that ties are too.
    shortlist = shortlist.sort().values
    log_probs_SNC = scored.read_log_probs(shortlist)
    if log_probs_SNC.shape[0] < 2:
        raise RecipeError(
            "selection",
            "batch_bald measures what posterior samples disagree about, and this posterior has a single one",
            "choose a posterior of several samples, such as mc_dropout, or another selection",
        )
    found, _ = batch_bald(
        log_probs_SNC,
        scored.batch,
        scored.generator,
        configurations=int(scored.parameters["configurations"]),
    )
    chosen = shortlist[found]
    taken_N = scored.pending_N.clone()
    taken_N[chosen] = True
    return torch.cat([chosen, top_k(scored.scores_N, taken_N, scored.count - len(chosen))])


SELECTIONS.add("batch_bald", Selection(_select, needs_samples=True))
