"""Posteriors, one module each: who says how sure the network is."""

from worker.learning.posteriors.base import (
    POSTERIORS,
    Fitted,
    Posterior,
    PosteriorKind,
    members_wanted,
    read_all,
    read_chunks,
)
from worker.learning.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["POSTERIORS", "Fitted", "Posterior", "PosteriorKind", "members_wanted", "read_all", "read_chunks"]
