"""Within a budget of its own: the surest images above a threshold, so many a round and so many in all."""

from __future__ import annotations

import numpy as np

from app.recipes import Pick
from worker.learning.pseudo_labelers.base import (
    PSEUDO_LABELERS,
    Guesses,
    Labelling,
    PseudoLabeler,
    PseudoLabels,
    find_threshold,
)


def label_within_budget(guesses: Guesses, pick: Pick) -> Labelling:
    """Add the surest candidates above the threshold to what stands; what the network now says otherwise leaves.

    The budget counts what stands, so a label that leaves, or that a person's answer replaces, gives its place back. An
    image that leaves is not labelled again in the same round. What a network is surest of is mostly of a few easy
    classes, and learning so many of them it finds them everywhere; ``per_class`` bounds how many of one class stand.

    References: source D (high-confidence samples within an annotation budget).
    """
    kept = guesses.standing.at(~_is_contradicted(guesses))
    is_new_N = guesses.is_new_N
    threshold = find_threshold(guesses, pick, is_new_N | np.isin(guesses.rows, kept.rows))
    report = {"threshold": threshold.value, **threshold.report}
    if threshold.value is None:
        return Labelling(kept, report)
    count = min(pick.integer("per_round"), pick.integer("total") - len(kept))
    sure = guesses.surest(is_new_N & (guesses.confidences >= threshold.value), len(guesses.rows))
    if per_class := pick.integer("per_class"):
        sure = sure[_places_in_class(guesses.classes[sure], kept.labels) < per_class]
    return Labelling(kept.joined(guesses.as_labels(sure[: max(0, count)])), report)


def _places_in_class(classes: np.ndarray, standing: np.ndarray) -> np.ndarray:
    """Return how many labels of its class come before each of some, in their order and after those that stand."""
    places = np.zeros(len(classes), np.int64)
    for each in np.unique(classes):
        is_of_class = classes == each
        places[is_of_class] = np.count_nonzero(standing == each) + np.arange(np.count_nonzero(is_of_class))
    return places


def _is_contradicted(guesses: Guesses) -> np.ndarray:
    """Say of each standing label whether the network now finds another class likelier; False if it did not look."""
    standing: PseudoLabels = guesses.standing
    order = np.argsort(guesses.rows, kind="stable")
    places = np.searchsorted(guesses.rows, standing.rows, sorter=order)
    is_seen = np.isin(standing.rows, guesses.rows)
    contradicted = np.zeros(len(standing), np.bool_)
    contradicted[is_seen] = guesses.classes[order[places[is_seen]]] != standing.labels[is_seen]
    return contradicted


PSEUDO_LABELERS.add("budget_annotator", PseudoLabeler(label_within_budget))
