"""Pseudo-labelers, one module each: which images the network labels by itself."""

from worker.learning.pseudo_labelers.base import PseudoLabels

__all__ = ["PseudoLabels"]
