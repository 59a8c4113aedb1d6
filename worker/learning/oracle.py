"""The simulated oracle: answers from hidden truth, with a chosen share of mistakes. Needs numpy only.

An answer is a pure function of (seed, key, truth, classes, noise). It does not depend on what was asked before, so
people and the oracle may take turns, and a question that is delivered twice gets the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def simulated_answers(seed: int, keys: np.ndarray, truths: np.ndarray, class_count: int, noise: float) -> np.ndarray:
    """Answer questions, each wrong with probability ``noise`` and then uniformly one of the other classes.

    Args:
        seed: decides which answers are wrong.
        keys: whole numbers [N] naming the images, such as rows or ids; equal keys get equal draws.
        truths: true classes [N] in [0, class_count).
        class_count: number of classes C, two or more.
        noise: probability of a wrong answer, in [0, 1].
    Returns:
        classes [N], int64.
    Raises:
        ValueError: lengths that differ, a truth outside the classes, or noise outside [0, 1].
    """
    if keys.shape != truths.shape or keys.ndim != 1:
        raise ValueError(f"keys and truths: expected two equal lengths, got shapes {keys.shape} and {truths.shape}")
    if not 0 <= noise <= 1:
        raise ValueError(f"noise: {noise} is not a probability")
    if class_count < 2 or (truths.size and not (truths.min() >= 0 and truths.max() < class_count)):
        raise ValueError(f"truths: expected classes from 0 to {class_count - 1}, two or more of them")
    draws = _mixed(keys.astype(np.uint64) ^ _mixed(np.full(keys.shape, seed % 2**64, np.uint64)))
    is_wrong = _unit(draws) < noise
    step = 1 + np.floor(_unit(_mixed(draws)) * (class_count - 1)).astype(np.int64)
    return np.where(is_wrong, (truths.astype(np.int64) + step) % class_count, truths.astype(np.int64))


@dataclass(frozen=True)
class SimulatedOracle:
    """Hidden truth for every row of an array of images, and how it is told."""

    true_labels: np.ndarray
    class_count: int
    noise: float = 0.0
    seed: int = 0

    def answer(self, rows: np.ndarray) -> np.ndarray:
        """Return classes [B] for rows [B]; asking again gives the same.

        Raises:
            ValueError: as ``simulated_answers``.
            IndexError: a row without truth.
        """
        return simulated_answers(self.seed, rows, self.true_labels[rows], self.class_count, self.noise)


def _mixed(values: np.ndarray) -> np.ndarray:
    """Scramble 64-bit numbers (SplitMix64; Steele, Lea and Flood 2014, figure 16)."""
    values = values + _GOLDEN
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed


def _unit(values: np.ndarray) -> np.ndarray:
    """Turn 64-bit numbers into float64 in [0, 1), from their upper 53 bits."""
    upper: np.ndarray = (values >> np.uint64(11)).astype(np.float64)
    return upper * 2.0**-53
