"""Acquisitions, one module each: readings to scores; higher = ask sooner."""

from worker.learning.acquisitions.base import ACQUISITIONS, Acquisition, Evidence, Sight, top_two
from worker.learning.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["ACQUISITIONS", "Acquisition", "Evidence", "Sight", "top_two"]
