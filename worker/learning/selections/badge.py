"""BADGE: a batch spread over the gradients that its images would cause, far apart and large (k-means++)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from worker.learning.clustering import draw_by_weight
from worker.learning.errors import NotFiniteError, check_shape
from worker.learning.selections.base import SELECTIONS, Scored, Selection


@dataclass(frozen=True)
class GradientEmbeddings:
    """Gradients of the last layer for N images, taking the likeliest class for the truth: g_n = a_n (x) f_n.

    ``errors_NC`` are a = p - onehot(argmax p), ``features_ND`` are f. Inner products of outer products are products of
    inner products, <g_i, g_j> = <a_i, a_j> <f_i, f_j>, so the N x C*D gradients themselves are never built.
    """

    errors_NC: Tensor
    features_ND: Tensor
    squares_N: Tensor

    @classmethod
    def of(cls, log_probs_NC: Tensor, features_ND: Tensor) -> GradientEmbeddings:
        """Make the embeddings of mean predictions.

        Raises:
            ShapeError: other than two axes, or lengths that differ.
            NotFiniteError: a probability that is not finite.
        """
        check_shape("log_probs_NC", log_probs_NC.shape, ("N", "C"))
        check_shape("features_ND", features_ND.shape, (len(log_probs_NC), "D"))
        probs_NC = log_probs_NC.exp()
        if not bool(torch.isfinite(probs_NC).all()):
            raise NotFiniteError("log_probs_NC: a probability is NaN or infinite")
        errors_NC = probs_NC - functional.one_hot(probs_NC.argmax(1), probs_NC.shape[1])
        squares_N = errors_NC.square().sum(1) * features_ND.square().sum(1)
        return cls(errors_NC, features_ND, squares_N)

    def squared_gaps(self, row: int) -> Tensor:
        """Squared distances_N of all gradients to that of one image, exactly 0 for itself."""
        products_N = (self.errors_NC @ self.errors_NC[row]) * (self.features_ND @ self.features_ND[row])
        gaps_N = (self.squares_N + self.squares_N[row] - 2 * products_N).clamp_(min=0)
        gaps_N[row] = 0
        return gaps_N


def badge(log_probs_NC: Tensor, features_ND: Tensor, pending_N: Tensor, count: int, generator: Generator) -> Tensor:
    """k-means++ over gradient embeddings: the largest gradient first, then drawn by squared distance to the nearest.

    Pending images are centres from the start. Where all gradients that are left coincide with a centre (predictions
    that are certain have none), images follow in order of position.

    Args:
        log_probs_NC: logarithm of the mean prediction.
        features_ND: features that the head works on.
        pending_N: true where an image must not be chosen.
        count: B, the images wanted; with fewer at hand, all of them.
        generator: source of the draws.
    Returns:
        positions_B, int64, in the order drawn.
    Raises:
        ShapeError, NotFiniteError: as ``GradientEmbeddings.of``.
    References: Ash et al. 2020, algorithm 1; Arthur and Vassilvitskii 2007.
    """
    gradients = GradientEmbeddings.of(log_probs_NC, features_ND)
    check_shape("pending_N", pending_N.shape, (len(log_probs_NC),))
    taken_N, chosen = pending_N.clone(), list[int]()
    gaps_N = torch.full_like(gradients.squares_N, torch.inf)
    for row in pending_N.nonzero().squeeze(1).tolist():
        torch.minimum(gaps_N, gradients.squared_gaps(row), out=gaps_N)
    gaps_N[pending_N] = 0
    for _ in range(min(count, int((~pending_N).sum()))):
        if not bool(taken_N.any()):
            row = int(gradients.squares_N.argmax())
        elif bool(gaps_N.any()):
            row = draw_by_weight(gaps_N, generator)
        else:
            row = int((~taken_N).int().argmax())
        chosen.append(row)
        taken_N[row] = True
        torch.minimum(gaps_N, gradients.squared_gaps(row), out=gaps_N)
    return torch.tensor(chosen, dtype=torch.int64)


def _select(scored: Scored) -> Tensor:
    return badge(scored.seen_predictions, scored.seen_features, scored.pending_N, scored.count, scored.generator)


SELECTIONS.add("badge", Selection(_select, needs_features=True, needs_log_probs=True, ignores_scores=True))
