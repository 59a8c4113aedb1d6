"""Power: the ranking shaken by Gumbel noise, so that a batch is a draw that favours high scores."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from worker.learning.selections.base import SELECTIONS, Scored, Selection, check_scores
from worker.learning.selections.top_k import top_k

# So that a score of exactly 0 is unlikely instead of impossible.
_LEAST_SCORE = 1e-30


def power_logits(scores_N: Tensor, form: str, sharpness: float) -> Tensor:
    """Logarithms of the unnormalised weights with which images are drawn.

    Args:
        scores_N: higher = ask sooner.
        form: ``power`` weighs by score^sharpness, ``softmax`` by exp(sharpness score), ``softrank`` by rank^-sharpness.
            Scores below zero are all raised by the lowest before they are taken to a power; equal ranks are shared.
        sharpness: beta; 0 draws uniformly, large values approach the highest scores.
    Returns:
        logits_N, float64, finite.
    References: Kirsch et al. 2023 (stochastic batch acquisition), table 1.
    """
    scores_N = scores_N.double()
    match form:
        case "power":
            raised_N = scores_N - scores_N.min().clamp(max=0) if len(scores_N) else scores_N
            return sharpness * raised_N.clamp(min=_LEAST_SCORE).log()
        case "softmax":
            return sharpness * scores_N
        case "softrank":
            highest_first = torch.sort(-scores_N).values
            return -sharpness * (torch.searchsorted(highest_first, -scores_N) + 1).double().log()
        case _:
            raise ValueError(f"form: {form!r} is none of power, softmax, softrank")


def power(logits_N: Tensor, pending_N: Tensor, count: int, generator: Generator) -> Tensor:
    """Draw without replacement by exp(logits): the largest of logits plus Gumbel noise.

    Args:
        logits_N: as of ``power_logits``.
        pending_N: true where an image must not be drawn.
        count: B, the images wanted; with fewer at hand, all of them.
        generator: source of the noise.
    Returns:
        positions_B, int64, in the order drawn: each has the chance exp(logit) / sum of exp(logits) left.
    Raises:
        ShapeError, NotFiniteError, ValueError: as ``check_scores``.
    References: Kool et al. 2019 (Gumbel top-k).
    """
    uniform_N = torch.rand(len(logits_N), generator=generator, dtype=torch.float64)
    noise_N = -(-uniform_N.clamp(min=torch.finfo(torch.float64).tiny).log()).log()
    return top_k(logits_N + noise_N, pending_N, count)


def _logits(scored: Scored) -> Tensor:
    check_scores(scored.scores_N, scored.pending_N, scored.count)
    return power_logits(scored.scores_N, str(scored.parameters["form"]), float(scored.parameters["sharpness"]))


SELECTIONS.add(
    "power",
    Selection(
        lambda scored: power(_logits(scored), scored.pending_N, scored.count, scored.generator),
        draw_logits=_logits,
    ),
)
