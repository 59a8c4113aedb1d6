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
from itertools import takewhile
from typing import Any

import numpy as np

from worker.learning.errors import NotFiniteError, ShapeError

# Hundredths of the images. More would add chances to fail by bad luck, fewer would make coarse steps.
_STEPS = 100
# Several series share the risk when there are answers enough: a later start forgives a wrong answer among the surest,
# an early one finds what little a poor network knows. Simulated: two thirds fewer failures with 1,000 answers.
_MOST_SERIES = 3
_GROWTH = 2.5
_LATEST_START = 0.6


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
    which images are held out. They are tested in series, each from a strict one, above which enough answers are to be
    expected, to the loosest; the first that cannot be vouched for ends the series. One series has the whole risk of
    1 - ``certainty``, several share it. So the chance that any of the thresholds passed is too low is at most the risk.

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
    report: dict[str, Any] = {"held_out": answers, "held_out_needed": needed}
    if not pool or answers < needed:
        reason = f"{answers} held-out answers, {needed} are needed" if pool else "there are no images to label"
        return Threshold(None, {**report, "reason": reason})
    levels = _levels(confidences_N, held_out, most_wrong)
    starts, risk = _starts(levels, answers, 1 - certainty)
    passed = [level for start in starts for level in _vouched_for(levels[start:], risk)]
    # Of the wrong images above, the held-out ones are known and not labelled.
    labelled = [int((is_free_N & (confidences_N >= level.threshold)).sum()) for level in passed]
    usable = [
        level
        for level, count in zip(passed, labelled, strict=True)
        if count and level.allowed - level.wrong <= most_wrong * count
    ]
    if usable:
        lowest = min(usable, key=lambda level: level.threshold)
        return Threshold(lowest.threshold, {**report, "held_out_above": lowest.seen, "held_out_wrong": lowest.wrong})
    if passed:
        return Threshold(None, {**report, "reason": "too few images are above any threshold that holds"})
    first = levels[starts[0]]
    reason = (
        f"{first.wrong} of {first.seen} held-out answers above the strictest threshold are wrong: that is too many to "
        f"be {certainty:.3g} sure of at most {most_wrong:.3g}"
    )
    return Threshold(None, {**report, "held_out_above": first.seen, "held_out_wrong": first.wrong, "reason": reason})


@dataclass(frozen=True)
class _Level:
    """A threshold to test.

    Of the images above it, held-out ones too, ``allowed`` may be wrong. ``expected`` of the answers are above it on
    average and ``likely`` nearly always; what is ``seen`` of them, and how many are ``wrong``, the test alone may know.
    """

    threshold: float
    above: int
    allowed: int
    expected: float
    likely: int
    seen: int
    wrong: int

    def chance(self, wrong: int, seen: int) -> float:
        """Chance of so few wrong answers if one image more than allowed were wrong."""
        return at_most(wrong, self.above, self.allowed + 1, seen)


def _levels(confidences_N: np.ndarray, held_out: HeldOut, most_wrong: float) -> list[_Level]:
    """Return the thresholds, strictest first."""
    pool, answers = len(confidences_N), len(held_out)
    total = pool + answers
    rising = np.sort(np.concatenate([confidences_N, held_out.confidences]))
    held_M, wrong_M = np.sort(held_out.confidences), np.sort(held_out.confidences[~held_out.is_right])
    levels = list[_Level]()
    for step in range(1, _STEPS + 1):
        threshold = rising[total - math.ceil(total * step / _STEPS)]
        above, seen, wrong = (len(one) - int(np.searchsorted(one, threshold)) for one in (rising, held_M, wrong_M))
        if levels and above == levels[-1].above:
            continue
        expected = above * answers / total
        spread = math.sqrt(expected * (pool / total) * (total - above) / max(1, total - 1))
        likely = max(0, math.floor(expected - 2 * spread))
        # About pool / total of the images above are labelled.
        allowed = math.floor(most_wrong * (above * pool / total))
        levels.append(_Level(float(threshold), above, allowed, expected, likely, seen, wrong))
    return levels


def _starts(levels: list[_Level], answers: int, risk: float) -> tuple[list[int], float]:
    """Return where the series begin, and the risk of each; by what is expected, not by what the answers were."""
    for series in range(_MOST_SERIES, 0, -1):
        starts = list[int]()
        for place, level in enumerate(levels):
            if not starts:
                is_start = level.chance(0, level.likely) <= risk / series
            else:
                is_start = _GROWTH * levels[starts[-1]].expected <= level.expected <= _LATEST_START * answers
            if is_start:
                starts.append(place)
        if len(starts) >= series:
            return starts[:series], risk / series
    raise ValueError("there are fewer answers than are needed")


def _vouched_for(levels: list[_Level], risk: float) -> Iterator[_Level]:
    """Go through a series up to the first threshold at which too many of the answers are wrong."""
    return takewhile(lambda level: level.chance(level.wrong, level.seen) <= risk, levels)


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
