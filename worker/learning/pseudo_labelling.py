"""A pseudo-labeler's part of a round: labels kept from the network for it to be judged by, and then its labels.

The rules themselves stand in ``worker.learning.pseudo_labelers``; what they need is gathered here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from app.recipes import Recipe
from worker.learning.devices import stable_seed
from worker.learning.pool import Images, Rows
from worker.learning.posteriors import Posterior, read_chunks
from worker.learning.pseudo_labelers import PSEUDO_LABELERS, Guesses, HeldOut, PseudoLabels
from worker.learning.scoring import PoolScores

Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def hold_out(recipe: Recipe, rows: Rows, is_drawn_N: Mask | None, image_count: int) -> Mask:
    """Say which labelled images the network is not shown, so that a pseudo-labeler's precision can be measured.

    Every image of the array is drawn for this or not, once and for all rounds: a network that starts warm, and the
    pseudo-labels of earlier ones, have not seen its label either. Only uniformly drawn images count, a fair sample of
    the pool; if nobody knows which were, none does. From scratch nothing is held out until there are enough to choose
    any threshold by, so that the first labels are not wasted.

    Args:
        recipe: its pseudo-labeler, and how it starts.
        rows: labelled rows.
        is_drawn_N: true where the image was drawn uniformly; None when nobody knows.
        image_count: images of the array.
    Returns:
        a mask of ``rows``; false for at least one of them.
    """
    pick, nothing = recipe.pseudo_labeler, np.zeros(len(rows), np.bool_)
    if pick.parameters.get("way") != "precision" or is_drawn_N is None:
        return nothing
    draws = np.random.default_rng(stable_seed(recipe.seed, "held out")).random(image_count)
    is_held_out = is_drawn_N & (draws[rows] < pick.number("held_out"))
    fewest = math.log(1 - pick.number("certainty")) / math.log(1 - pick.number("most_wrong"))
    is_too_early = recipe.fitting.text("start") == "scratch" and is_held_out.sum() < fewest
    return nothing if is_too_early or is_held_out.all() else is_held_out


def judge(posterior: Posterior, inputs: Images, rows: Rows, labels: Rows, device: torch.device) -> HeldOut:
    """Hold a posterior's guesses against people's answers, chunk by chunk."""
    confidences, is_right = list[np.ndarray](), list[np.ndarray]()
    for part, reading in read_chunks(posterior, inputs, rows, device):
        best_N, classes_N = reading.mean_log_probs_NC.max(dim=-1)
        confidences.append(best_N.exp().cpu().numpy())
        is_right.append(classes_N.cpu().numpy() == labels[part])
    return HeldOut(np.concatenate(confidences), np.concatenate(is_right)) if confidences else HeldOut.none()


def label_pool(
    recipe: Recipe,
    rows: Rows,
    pool: PoolScores,
    held_out: HeldOut,
    *,
    standing: PseudoLabels,
    asked: Rows,
    is_spent: bool,
    knows_draws: bool,
) -> tuple[PseudoLabels, Mapping[str, Any]]:
    """Let the recipe's pseudo-labeler decide what stands from now on.

    Args:
        recipe: its pseudo-labeler.
        rows: the candidates, to which the pool's guesses belong.
        pool: scores of the candidates, with guesses.
        held_out: answers that the network was not shown.
        standing: what stands so far.
        asked: the batch that people are asked about next.
        is_spent: whether no human labels are left.
        knows_draws: whether it is known which labels were drawn uniformly.
    Returns:
        all labels of models from now on; and plain JSON values: the rule's own and how many were ``added``,
        ``withdrawn`` and ``changed``, and are ``standing`` now.
    """
    if pool.classes_N is None or pool.confidences_N is None:
        raise ValueError("a pseudo-labeler decides on guesses, and none were kept")
    pick = recipe.pseudo_labeler
    guesses = Guesses(rows, pool.classes_N.numpy(), pool.confidences_N.numpy(), standing, asked, held_out, is_spent)
    labelling = PSEUDO_LABELERS.get(pick.name).label(guesses, pick)
    report = {"rule": pick.name, **labelling.report, **count_changes(standing, labelling.pseudo)}
    if pick.parameters.get("way") == "precision" and not knows_draws:
        report["reason"] = "nobody knows which labels were drawn uniformly, so none could be held out"
    return labelling.pseudo, report


def count_changes(before: PseudoLabels, after: PseudoLabels) -> dict[str, int]:
    """Count what a decision adds, withdraws and gives another class, and what stands after it."""
    _, old, new = np.intersect1d(before.rows, after.rows, assume_unique=True, return_indices=True)
    return {
        "added": len(after) - len(new),
        "withdrawn": len(before) - len(old),
        "changed": int((before.labels[old] != after.labels[new]).sum()),
        "standing": len(after),
    }
