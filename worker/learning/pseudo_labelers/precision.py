"""A threshold for a wanted precision: how far down the confidences labels may go, judged by held-out answers.

The held-out answers are a uniform draw from all images that are looked at, themselves included, and the network never
learned from them. Then nothing has to be assumed of the confidences: how many of the answers above a threshold are
wrong is a draw without replacement from the images above it, wrong and right ones, and its tail is exact.

What the promise does not cover. It is made for one round, not for all rounds together. Images that were labelled by
asking, not by a draw, are no longer among those to be labelled; those that are left are as a rule easier than the draw.
And images that were given pseudo-labels and are fitted to them (a ``weight`` above 0) are judged by a network that has
learned them, unlike the held-out ones: what is wrong among them tends to stay.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from worker.learning.errors import NotFiniteError, ShapeError

# Hundredths of the images. More would add chances to fail by bad luck, fewer would make coarse steps.
_STEPS = 100


@dataclass(frozen=True)
class HeldOut:
    """Answers that the network was not shown: its ``confidences`` [M], and ``is_right`` where it says the same."""

    confidences: np.ndarray
    is_right: np.ndarray

    def __post_init__(self) -> None:
        if self.confidences.ndim != 1 or self.is_right.shape != self.confidences.shape:
            raise ShapeError("held-out is_right", self.confidences.shape, self.is_right.shape)
        if not np.isfinite(self.confidences).all():
            raise NotFiniteError("held-out confidences: one is NaN or infinite")

    def __len__(self) -> int:
        return len(self.confidences)

    @classmethod
    def none(cls) -> HeldOut:
        """Return no answers."""
        return cls(np.empty(0, np.float32), np.empty(0, np.bool_))


@dataclass(frozen=True)
class Threshold:
    """The least confidence at which to label, None if none can be vouched for; ``report`` says why, in JSON values."""

    value: float | None
    report: Mapping[str, Any] = field(default_factory=dict)


def choose_threshold(
    confidences_N: np.ndarray, is_free_N: np.ndarray, held_out: HeldOut, most_wrong: float, certainty: float
) -> Threshold:
    """Find the lowest threshold above which at most a share of the labels is wrong, with a given certainty.

    Thresholds are hundredths of all images by confidence, pool and held-out ones together, so they do not depend on
    which images are held out. They are tested from the strictest, the first above which enough answers are to be
    expected, to the loosest, each at full level; the first that cannot be vouched for ends the series. So the chance
    that any of the thresholds passed is too low is at most 1 - ``certainty``.

    Args:
        confidences_N: largest probability of each image of the pool.
        is_free_N: true where an image would be labelled if it is above the threshold.
        held_out: answers to a uniform draw of images that the network was not shown.
        most_wrong: share in (0, 1) of the images labelled above the threshold that may be wrong.
        certainty: in (0, 1), over the draw of the held-out images.
    References: Bauer 1991 (fixed sequence); Angelopoulos et al. 2021 (Learn then Test); Wright 1991 (finite pools).
    """
    pool, answers = len(confidences_N), len(held_out)
    needed = answers_needed(pool, most_wrong, certainty)
    asked: dict[str, Any] = {"held_out": answers, "held_out_needed": needed}
    if answers < needed:
        reason = f"{answers} held-out answers, {needed} are needed"
        return Threshold(None, {**asked, "reason": reason if pool else "there are no images to label"})
    found = Threshold(None, {**asked, "reason": "above no threshold that holds there are enough images to label"})
    for tested, level in enumerate(_levels(confidences_N, held_out.confidences, most_wrong, certainty)):
        is_above_M = held_out.confidences >= level.threshold
        seen, wrong = int(is_above_M.sum()), int((is_above_M & ~held_out.is_right).sum())
        facts = {**asked, "held_out_above": seen, "held_out_wrong": wrong}
        if at_most(wrong, level.above, level.most_wrong + 1, seen) > 1 - certainty:
            if not tested:
                found = Threshold(None, {**facts, "reason": _too_many(seen, wrong, most_wrong, certainty)})
            break
        # Of the wrong images above, the held-out ones are known and not labelled.
        labelled = int((is_free_N & (confidences_N >= level.threshold)).sum())
        if labelled and level.most_wrong - wrong <= most_wrong * labelled:
            found = Threshold(level.threshold, facts)
    return found


@dataclass(frozen=True)
class _Level:
    """A threshold, how many images (held-out ones too) are above it, and how many of them may be wrong."""

    threshold: float
    above: int
    most_wrong: int


def _levels(confidences_N: np.ndarray, held_out_M: np.ndarray, most_wrong: float, certainty: float) -> Iterator[_Level]:
    """Go through the thresholds to test, strictest first; nothing here depends on which images are held out."""
    pool, answers = len(confidences_N), len(held_out_M)
    total = pool + answers
    falling_U = np.sort(np.concatenate([confidences_N, held_out_M]))[::-1]
    is_begun, before = False, 0
    for step in range(1, _STEPS + 1):
        threshold = falling_U[math.ceil(total * step / _STEPS) - 1]
        above = int(np.searchsorted(-falling_U, -threshold, side="right"))
        if above == before:
            continue
        before = above
        # Of the images above, about pool / total are labelled.
        level = _Level(float(threshold), above, math.floor(most_wrong * above * pool / total))
        if not is_begun:
            mean = above * answers / total
            spread = math.sqrt(mean * (pool / total) * (total - above) / max(1, total - 1))
            likely = math.floor(mean - 2 * spread)
            is_begun = likely > 0 and at_most(0, above, level.most_wrong + 1, likely) <= 1 - certainty
        if is_begun:
            yield level


def answers_needed(pool: int, most_wrong: float, certainty: float) -> int:
    """Return how many held-out answers, all right, it takes to vouch for a whole pool.

    It comes near ln(1 - certainty) / ln(1 - most_wrong) as the pool grows: 149 for 2% and 95%.
    """
    allowed = math.floor(most_wrong * pool)

    def is_enough(answers: int) -> bool:
        return at_most(0, pool + answers, min(allowed + 1, pool + answers), answers) <= 1 - certainty

    # One wrong image in a pool without allowance is the hardest to see: pool / (pool + answers) has to be small.
    highest = math.ceil(max(1, pool) / (1 - certainty))
    return 1 + bisect_left(range(1, highest + 1), True, key=is_enough)


def at_most(seen: int, total: int, wrong: int, drawn: int) -> float:
    """Chance of at most ``seen`` wrong ones among ``drawn`` images of ``total``, ``wrong`` of which are wrong."""
    if wrong > total:
        return 0.0
    lowest, highest = max(0, drawn - (total - wrong)), min(seen, wrong, drawn)
    whole = _log_choose(total, drawn)
    logs = (_log_choose(wrong, k) + _log_choose(total - wrong, drawn - k) - whole for k in range(lowest, highest + 1))
    return min(1.0, math.fsum(math.exp(log) for log in logs))


def _log_choose(total: int, count: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(count + 1) - math.lgamma(total - count + 1)


def _too_many(seen: int, wrong: int, most_wrong: float, certainty: float) -> str:
    return (
        f"{wrong} of {seen} held-out answers above the strictest threshold are wrong: that is too many to be "
        f"{certainty:.3g} sure of at most {most_wrong:.3g}"
    )
