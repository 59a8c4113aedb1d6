"""None: only people and the simulated oracle label images."""

from __future__ import annotations

from worker.learning.pseudo_labelers.base import PSEUDO_LABELERS, Labelling, PseudoLabeler, PseudoLabels

PSEUDO_LABELERS.add("none", PseudoLabeler(lambda _guesses, _pick: Labelling(PseudoLabels.none()), reads_pool=False))
