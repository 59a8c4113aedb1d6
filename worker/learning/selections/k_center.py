"""k-centre: each image of the batch is the one farthest from everything labelled or chosen before it (core-set)."""

from __future__ import annotations

import torch
from torch import Tensor

from worker.learning.clustering import squared_gaps
from worker.learning.errors import check_shape
from worker.learning.pool import chunk_slices
from worker.learning.selections.base import SELECTIONS, Scored, Selection, check_scores

_BLOCK_NUMBERS = 2**22


def k_center(
    features_ND: Tensor, scores_N: Tensor, pending_N: Tensor, labelled_features_LD: Tensor, count: int
) -> Tensor:
    """Greedy farthest-first traversal of the features, which covers the pool at most twice as coarsely as the best.

    Labelled and pending images are centres from the start; where there is none, the first centre is the image with the
    highest score. Equal distances are taken in order of position.

    Args:
        features_ND: finite features of the pool; distances between them are Euclidean.
        scores_N: higher = ask sooner; of use for the first centre only.
        pending_N: true where an image must not be chosen.
        labelled_features_LD: features of the labelled images; there may be none.
        count: B, the images wanted; with fewer at hand, all of them.
    Returns:
        positions_B, int64, farthest first.
    Raises:
        ShapeError: features whose axes do not fit the scores or each other.
        NotFiniteError, ValueError: as ``check_scores``.
    References: Gonzalez 1985; Sener and Savarese 2018, algorithm 1.
    """
    check_scores(scores_N, pending_N, count)
    check_shape("features_ND", features_ND.shape, (len(scores_N), "D"))
    check_shape("labelled_features_LD", labelled_features_LD.shape, ("L", features_ND.shape[1]))
    gaps_N = _gaps_to_centres(features_ND, torch.cat([labelled_features_LD, features_ND[pending_N]]))
    gaps_N[pending_N] = -1
    chosen = list[int]()
    for _ in range(min(count, int((~pending_N).sum()))):
        # argmax is documented to return the first of equal values.
        farthest = int(gaps_N.argmax())
        if gaps_N[farthest] == torch.inf:
            farthest = int(scores_N.argmax())
        chosen.append(farthest)
        torch.minimum(gaps_N, squared_gaps(features_ND, features_ND[farthest]), out=gaps_N)
        gaps_N[farthest] = -1
    return torch.tensor(chosen, dtype=torch.int64)


def _gaps_to_centres(features_ND: Tensor, centres_CD: Tensor) -> Tensor:
    """Squared distances_N to the nearest centre, infinite if there is none."""
    gaps_N = features_ND.new_full((len(features_ND),), torch.inf)
    if not len(centres_CD) or not len(features_ND):
        return gaps_N
    for part in chunk_slices(len(features_ND), max(1, _BLOCK_NUMBERS // len(centres_CD))):
        gaps_N[part] = torch.cdist(features_ND[part], centres_CD).min(1).values.square()
    return gaps_N


def _select(scored: Scored) -> Tensor:
    return k_center(scored.seen_features, scored.scores_N, scored.pending_N, scored.known_features, scored.count)


SELECTIONS.add("k_center", Selection(_select, needs_features=True, needs_labelled=True, ignores_scores=True))
