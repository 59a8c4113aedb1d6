"""Pseudo-labelers, one module each: which images the network labels by itself."""

from worker.learning.pseudo_labelers.base import PSEUDO_LABELERS, Guesses, Labelling, PseudoLabeler, PseudoLabels
from worker.learning.pseudo_labelers.precision import HeldOut
from worker.learning.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["PSEUDO_LABELERS", "Guesses", "HeldOut", "Labelling", "PseudoLabeler", "PseudoLabels"]
