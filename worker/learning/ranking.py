"""Which candidates to ask about, best first, and why: selection, uniform share and near duplicates put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Generator, Tensor

from app.recipes import Recipe
from worker.learning.acquisitions import ACQUISITIONS, Sight
from worker.learning.acquisitions.random import random_scores
from worker.learning.cold_start import typical_positions
from worker.learning.devices import cores_for, seeded
from worker.learning.drawing import Draws, Mixing, draw_ranking
from worker.learning.grouping import cluster_ranked
from worker.learning.looks import looks, plain_features
from worker.learning.neighbours import Neighbours, nearest_labelled
from worker.learning.pool import Images, Rows
from worker.learning.posteriors import Posterior, read_all
from worker.learning.reading import Reading
from worker.learning.scoring import PoolScores, explain_rows
from worker.learning.selections import SELECTIONS, Scored
from worker.learning.selections.top_k import top_k

# Numbers in the features of all candidates, from which on ranking them is worth all cores.
_WORTH_ALL_CORES = 2**21


@dataclass(frozen=True)
class Ranking:
    """The K rows to ask about, best first, and why.

    ``propensities`` [K] is the probability that a row was drawn at its rank, given those drawn before it; None when
    nothing was drawn. ``is_random`` [K] is true for a row that was drawn uniformly, not chosen by the strategy, and
    ``is_typical`` [K] for one that a network's ranking has as typical of a cluster, whatever its score. ``chosen_by``
    is what chose all others: the acquisition, or the selection if it ignores scores.
    ``top_classes`` and ``top_probs`` [K, 2], the likeliest class first, are None on a cold start. ``parts`` are the
    acquisition's named numbers [K]. ``neighbours`` and ``clusters`` [K] are there if they were asked for: images that
    look alike have the same number, from 1, and 0 are those that were drawn uniformly.
    """

    rows: Rows
    scores: np.ndarray
    chosen_by: str
    propensities: np.ndarray | None
    is_random: np.ndarray
    is_typical: np.ndarray
    top_classes: np.ndarray | None = None
    top_probs: np.ndarray | None = None
    parts: Mapping[str, np.ndarray] = field(default_factory=dict)
    neighbours: Neighbours | None = None
    clusters: np.ndarray | None = None


@dataclass(frozen=True)
class Known:
    """What a fitted network says: its posterior, where it computes, all candidates' scores; and what is labelled."""

    posterior: Posterior
    device: torch.device
    pool: PoolScores
    labelled_rows: Rows
    class_count: int


def rank_by_scores(
    recipe: Recipe,
    images_NHWC: Images,
    candidates: Rows,
    known: Known,
    *,
    count: int,
    round_number: int,
    neighbours: int = 0,
    clusters: int = 0,
) -> Ranking:
    """Rank candidates by the recipe's selection, with its uniform share and without near duplicates.

    Args:
        recipe: acquisition, selection and sizes.
        images_NHWC: uint8, in memory or memory-mapped.
        candidates: int64 rows that the pool's scores belong to; none of them pending.
        known: what the network says.
        count: K, the rows to rank: the batch and its reserve.
        round_number: the same number draws the same.
        neighbours: how many of the nearest labelled images to find for each row; that reads all labelled images.
        clusters: how many to make at least, see ``cluster_ranked``; 0 for none.
    Raises:
        RecipeError: a selection that cannot work with this posterior.
        NotFiniteError: a score or a feature that is NaN or infinite.
    """
    name, selection, pool = recipe.acquisition.name, SELECTIONS.get(recipe.selection.name), known.pool
    acquisition, total = ACQUISITIONS.get(name), len(candidates)
    look = _Look(images_NHWC, candidates, known)
    generator = seeded(recipe.seed, round_number, "selecting")

    is_typical_N = torch.zeros(total, dtype=torch.bool)
    # Where near duplicates were left out the selection is asked again, and looks at the same images if at all of them.
    seen = dict[bytes, Tensor]()

    def looks_at(positions: Tensor) -> Tensor:
        key = positions.numpy().tobytes()
        if key not in seen:
            rows = np.concatenate([candidates[positions.numpy()], known.labelled_rows])
            seen[key] = looks(images_NHWC, rows, seeded(recipe.seed, round_number, "looking"))
        return seen[key]

    def note_typical(positions: Tensor) -> None:
        is_typical_N[positions] = True

    def scored(pending_N: Tensor, wanted: int) -> Scored:
        return Scored(
            pool.scores_N,
            pending_N,
            wanted,
            generator,
            recipe.selection.parameters,
            features_ND=pool.features_ND,
            labelled_features_LD=look.labelled_features if selection.needs_labelled else None,
            log_probs_NC=pool.log_probs_NC,
            read_log_probs=look.log_probs_at if selection.needs_samples else None,
            read_looks=looks_at if selection.needs_looks else None,
            batch_size=recipe.batch_size,
            labels_per_class=len(known.labelled_rows) / known.class_count,
            note_typical=note_typical,
        )

    mixing = Mixing(
        recipe.random_share,
        selection.draw_logits(scored(torch.zeros(total, dtype=torch.bool), count)) if selection.draw_logits else None,
        acquisition.sight is Sight.NOTHING and selection.follows_scores,
        look.features_at,
        recipe.duplicate_similarity,
    )
    numbers = 0 if pool.features_ND is None else pool.features_ND.numel()
    with cores_for(numbers, _WORTH_ALL_CORES):
        drawn = draw_ranking(
            lambda pending_N, wanted: selection.select(scored(pending_N, wanted)),
            total,
            count,
            mixing,
            seeded(recipe.seed, round_number, "mixing"),
        )
    rows = candidates[drawn.positions_K.numpy()]
    reasons = explain_rows(acquisition, known.posterior, images_NHWC, rows, device=known.device)
    near = None
    if neighbours and len(rows):
        near = nearest_labelled(
            known.posterior,
            images_NHWC,
            known.labelled_rows,
            reasons.features_KD,
            count=neighbours,
            device=known.device,
        )
    return Ranking(
        rows=rows,
        scores=pool.scores_N[drawn.positions_K].to(torch.float32).numpy(),
        chosen_by=recipe.selection.name if selection.ignores_scores else name,
        propensities=_array(drawn),
        is_random=drawn.is_random_K.numpy(),
        is_typical=(is_typical_N[drawn.positions_K] & ~drawn.is_random_K).numpy(),
        top_classes=reasons.top_classes_K2.numpy(),
        top_probs=reasons.top_probs_K2.numpy(),
        parts={name: values_K.numpy() for name, values_K in reasons.parts.items()},
        neighbours=near,
        clusters=_clusters(recipe, round_number, reasons.features_KD, drawn, clusters),
    )


def rank_cold(
    recipe: Recipe, images_NHWC: Images, candidates: Rows, *, count: int, round_number: int, clusters: int = 0
) -> tuple[Ranking, np.ndarray]:
    """Rank candidates by the recipe's cold start, as long as there is no network to ask.

    Args: as ``rank_by_scores``; clusters are those of what the images look like.
    Returns:
        the ranking, and scores [N] in [0, 1] of all candidates: drawn uniformly, or falling from the image that the
        clusters put first to the one that they put last.
    """
    total, is_uniform = len(candidates), recipe.cold_start == "random"
    scores_N = random_scores(total, seeded(recipe.seed, round_number, "scoring"))
    if not is_uniform:
        generator = seeded(recipe.seed, round_number, "clustering")
        scores_N[_typical(images_NHWC, candidates, recipe.seed_set, generator)] = torch.linspace(1, 0, total).double()
    mixing = Mixing(
        recipe.random_share,
        None,
        is_uniform,
        lambda positions: plain_features(images_NHWC, candidates[positions.numpy()]),
        recipe.duplicate_similarity,
    )
    drawn = draw_ranking(
        lambda pending_N, wanted: top_k(scores_N, pending_N, wanted),
        total,
        count,
        mixing,
        seeded(recipe.seed, round_number, "mixing"),
    )
    positions, scores = drawn.positions_K.numpy(), scores_N.to(torch.float32).numpy()
    seen_KD = torch.empty(len(positions), 0)
    if clusters and not is_uniform:
        seen_KD = looks(images_NHWC, candidates[positions], seeded(recipe.seed, round_number, "looking"))
    ranking = Ranking(
        rows=candidates[positions],
        scores=scores[positions],
        chosen_by="random" if is_uniform else "clusters",
        propensities=_array(drawn),
        is_random=drawn.is_random_K.numpy(),
        is_typical=np.zeros(len(positions), np.bool_),
        clusters=_clusters(recipe, round_number, seen_KD, drawn, clusters),
    )
    return ranking, scores


@dataclass(frozen=True)
class _Look:
    """Reads candidates and labelled images again, a few at a time, so that a whole pool never stands in memory."""

    images_NHWC: Images
    candidates: Rows
    known: Known

    def features_at(self, positions: Tensor) -> Tensor:
        pool = self.known.pool
        return pool.features_ND[positions] if pool.features_ND is not None else self._read(positions).features_ND

    def log_probs_at(self, positions: Tensor) -> Tensor:
        return self._read(positions).log_probs_SNC

    @cached_property
    def labelled_features(self) -> Tensor:
        known = self.known
        return read_all(known.posterior, self.images_NHWC, known.labelled_rows, known.device).features_ND

    def _read(self, positions: Tensor) -> Reading:
        rows = self.candidates[positions.numpy()]
        return read_all(self.known.posterior, self.images_NHWC, rows, self.known.device)


def _typical(images_NHWC: Images, candidates: Rows, batch: int, generator: Generator) -> Tensor:
    numbers = len(candidates) * images_NHWC[0].size if len(images_NHWC) else 0
    with cores_for(numbers, _WORTH_ALL_CORES):
        return typical_positions(images_NHWC, candidates, batch, len(candidates), generator)


def _clusters(recipe: Recipe, round_number: int, seen_KD: Tensor, drawn: Draws, least: int) -> np.ndarray | None:
    if not least:
        return None
    generator = seeded(recipe.seed, round_number, "grouping")
    return cluster_ranked(seen_KD.cpu().float(), drawn.is_random_K.numpy(), least, generator)


def _array(drawn: Draws) -> np.ndarray | None:
    return None if drawn.propensities_K is None else drawn.propensities_K.numpy()
