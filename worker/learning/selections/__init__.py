"""Batch selections, one module each: scores to the ranked rows of a batch."""

from worker.learning.registry import import_modules
from worker.learning.selections.base import SELECTIONS, Scored, Selection

import_modules(__name__, __path__)

__all__ = ["SELECTIONS", "Scored", "Selection"]
