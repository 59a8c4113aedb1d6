"""Fittings, one module each: labelled images to a fitted network, and a report of how it went."""

from worker.learning.fitting.base import FITTINGS, EpochReport, FitReport, Start, Stopped, TrainingSet
from worker.learning.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["FITTINGS", "EpochReport", "FitReport", "Start", "Stopped", "TrainingSet"]
