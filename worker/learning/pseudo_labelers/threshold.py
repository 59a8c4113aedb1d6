"""Above a threshold: whatever the network is sure enough of, decided anew in each round."""

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


def label_above_threshold(guesses: Guesses, pick: Pick) -> Labelling:
    """Label every candidate whose largest probability is at or above the threshold.

    What stands and was not looked at in this round, because it is no candidate just now, goes on standing. Without a
    threshold that can be vouched for nothing stands.

    References: Lee 2013; source A (threshold 0.97).
    """
    is_free_N = guesses.is_new_N | guesses.stands_N
    threshold = find_threshold(guesses, pick, is_free_N)
    report = {"threshold": threshold.value, **threshold.report}
    if threshold.value is None:
        return Labelling(PseudoLabels.none(), report)
    unseen = guesses.standing.at(~np.isin(guesses.standing.rows, guesses.rows))
    above = guesses.as_labels(is_free_N & (guesses.confidences >= threshold.value))
    return Labelling(unseen.joined(above), report)


PSEUDO_LABELERS.add("threshold", PseudoLabeler(label_above_threshold))
