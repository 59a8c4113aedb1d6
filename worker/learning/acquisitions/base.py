"""What every acquisition is, and the sums that several of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from torch import Generator, Tensor

from app.recipes import Value
from worker.learning.reading import Reading, mean_log_probs
from worker.learning.registry import Registry


class Sight(StrEnum):
    """What an acquisition has to see before it can score one image."""

    NOTHING = "nothing"  # not even a network: the images are drawn
    IMAGE = "image"  # that image's reading, so a pool is scored chunk by chunk
    POOL = "pool"  # features and mean prediction (S = 1) of all images at once


@dataclass(frozen=True)
class Evidence:
    """What an acquisition may look at; without a network there is no reading."""

    count: int
    generator: Generator
    parameters: Mapping[str, Value]
    reading: Reading | None = None

    @property
    def seen(self) -> Reading:
        """Return the reading, to an acquisition that asked to see it."""
        if self.reading is None:
            raise ValueError("this acquisition scores what a posterior says, and there is none")
        return self.reading


@dataclass(frozen=True)
class Acquisition:
    """An entry of the registry.

    ``score`` returns scores_N, higher = ask sooner. ``parts`` returns what an image's own reading adds to its score, as
    named numbers [N] in the words of the formula; they are stored with each query to answer "why this image?".
    """

    sight: Sight
    score: Callable[[Evidence], Tensor]
    parts: Callable[[Reading], Mapping[str, Tensor]] = lambda _reading: {}


ACQUISITIONS: Registry[Acquisition] = Registry("acquisition")


def top_two(log_probs_SNC: Tensor) -> tuple[Tensor, Tensor]:
    """Two likeliest classes of the mean prediction: probabilities_N2, the likeliest first, and classes_N2.

    Raises:
        ShapeError: as ``mean_log_probs``.
    """
    log_probs_N2, classes_N2 = mean_log_probs(log_probs_SNC).topk(2, dim=-1)
    return log_probs_N2.exp(), classes_N2
