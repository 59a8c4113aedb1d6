"""Co-training: what two networks teach each other while they are fitted, from ``worker.learning.co_training``."""

from __future__ import annotations

from worker.learning.pseudo_labelers.base import PSEUDO_LABELERS, Labelling, PseudoLabeler, PseudoLabels

PSEUDO_LABELERS.add(
    "co_training",
    PseudoLabeler(lambda _guesses, _pick: Labelling(PseudoLabels.none()), reads_pool=False, teaches_pair=True),
)
