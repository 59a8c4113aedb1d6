"""Most confident: a few more labels in each round, those that the network is surest of."""

from __future__ import annotations

from app.recipes import Pick
from worker.learning.pseudo_labelers.base import PSEUDO_LABELERS, Guesses, Labelling, PseudoLabeler


def label_most_confident(guesses: Guesses, pick: Pick) -> Labelling:
    """Add the most confident candidates without a label to what stands, which stays as it was given.

    References: source E (10 at a time, after the human labels).
    """
    if pick.text("after") == "budget" and not guesses.is_spent:
        return Labelling(guesses.standing, {"reason": "human labels are left in the budget"})
    added = guesses.as_labels(guesses.surest(guesses.is_new_N, pick.integer("count")))
    return Labelling(guesses.standing.joined(added))


PSEUDO_LABELERS.add("most_confident", PseudoLabeler(label_most_confident))
