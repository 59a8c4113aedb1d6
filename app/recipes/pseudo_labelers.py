"""Pseudo-labelers that can be chosen: which images the network labels by itself."""

from __future__ import annotations

from app.recipes.choices import Choice, Group

PSEUDO_LABELERS = Group(
    "pseudo_labeler",
    "Pseudo-labels",
    (
        Choice(
            "none",
            "None",
            "Only people and the simulated oracle label images.",
            "-",
            "When every label has to come from a person.",
        ),
    ),
)
