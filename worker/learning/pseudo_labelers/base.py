"""What a pseudo-labeler works on and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from app.recipes import Pick
from worker.learning.errors import NotFiniteError, ShapeError
from worker.learning.pool import Rows
from worker.learning.pseudo_labelers.precision import HeldOut, Threshold, choose_threshold
from worker.learning.registry import Registry

Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@dataclass(frozen=True)
class PseudoLabels:
    """Labels that a model gave: int64 ``rows``, ascending, and ``labels``, float32 ``confidences`` in [0, 1]; all [N].

    Rows that a person has labelled are never among them.
    """

    rows: Rows
    labels: Rows
    confidences: np.ndarray

    def __post_init__(self) -> None:
        for name in ("labels", "confidences"):
            if getattr(self, name).shape != self.rows.shape:
                raise ShapeError(f"pseudo-labels' {name}", self.rows.shape, getattr(self, name).shape)

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, chosen: np.ndarray) -> PseudoLabels:
        """Return the labels at some positions, or where a mask is true; ascending by row."""
        rows = self.rows[chosen]
        order = np.argsort(rows, kind="stable")
        return PseudoLabels(rows[order], self.labels[chosen][order], self.confidences[chosen][order])

    def joined(self, others: PseudoLabels) -> PseudoLabels:
        """Return these labels and others of other rows, ascending by row."""
        both = ((getattr(self, name), getattr(others, name)) for name in ("rows", "labels", "confidences"))
        return PseudoLabels(*map(np.concatenate, both)).at(np.arange(len(self) + len(others)))

    @classmethod
    def none(cls) -> PseudoLabels:
        """Return no labels."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(frozen=True)
class Guesses:
    """What a network says of the candidates, and what else a pseudo-labeler goes by.

    ``rows`` [N] are the candidates, in any order, each with its likeliest class in ``classes`` and the probability of
    that class, by the posterior's mean prediction, in ``confidences``. ``standing`` are the labels that earlier models
    gave and that stand so far; ``asked`` are the rows of the batch that people are asked about next. ``held_out`` are
    answers to uniformly drawn images that the network was not shown. ``is_spent`` says that no human labels are left.
    """

    rows: Rows
    classes: Rows
    confidences: np.ndarray
    standing: PseudoLabels = field(default_factory=PseudoLabels.none)
    asked: Rows = field(default_factory=lambda: np.empty(0, np.int64))
    held_out: HeldOut = field(default_factory=HeldOut.none)
    is_spent: bool = False

    def __post_init__(self) -> None:
        for name in ("classes", "confidences"):
            if getattr(self, name).shape != self.rows.shape:
                raise ShapeError(f"guesses' {name}", self.rows.shape, getattr(self, name).shape)
        if not np.isfinite(self.confidences).all():
            raise NotFiniteError("guesses' confidences: one is NaN or infinite")

    @property
    def stands_N(self) -> Mask:  # noqa: N802 - the axis is part of the name
        """Say of each candidate whether it has a label of a model already."""
        return np.isin(self.rows, self.standing.rows)

    @property
    def is_new_N(self) -> Mask:  # noqa: N802 - likewise
        """Say of each candidate whether it may be labelled anew: it has no label, and nobody is asked about it.

        A label that stands is not withdrawn because a person is asked about the image; the answer, when it comes, shows
        whether it was right.
        """
        return ~self.stands_N & ~np.isin(self.rows, self.asked)

    def as_labels(self, chosen: np.ndarray) -> PseudoLabels:
        """Return what the network says of the candidates at some positions, or where a mask is true, as labels."""
        return PseudoLabels(self.rows, self.classes, self.confidences).at(chosen)

    def surest(self, allowed_N: Mask, count: int) -> np.ndarray:
        """Return positions of the surest candidates of those allowed; of equally sure ones, the lower row first."""
        order = np.lexsort((self.rows, -self.confidences))
        return order[allowed_N[order]][: max(0, count)]


@dataclass(frozen=True)
class Labelling:
    """All labels of models that stand from now on, and plain JSON values that say how they were chosen."""

    pseudo: PseudoLabels
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PseudoLabeler:
    """An entry of the registry.

    ``label`` returns all that stands from now on. It is called with guesses of a round's candidates and the recipe's
    pick. One that labels nothing by itself says that it does not read the pool, and is not called in a round.
    One that ``teaches_pair`` takes its labels while two networks are fitted, from ``worker.learning.co_training``.
    """

    label: Callable[[Guesses, Pick], Labelling]
    reads_pool: bool = True
    teaches_pair: bool = False

    @property
    def gives_labels(self) -> bool:
        """Return whether labels of models may come of it."""
        return self.reads_pool or self.teaches_pair


PSEUDO_LABELERS: Registry[PseudoLabeler] = Registry("pseudo_labeler")


def find_threshold(guesses: Guesses, pick: Pick, is_free_N: Mask) -> Threshold:
    """Return the threshold that a pick gives, or the one at which its precision can be vouched for.

    Args:
        guesses: what the network says.
        pick: a pseudo-labeler with a ``way`` and what belongs to it.
        is_free_N: true where a candidate is labelled if it is above the threshold.
    """
    if pick.text("way") == "given":
        return Threshold(pick.number("confidence"))
    wanted = {name: pick.number(name) for name in ("most_wrong", "certainty")}
    return choose_threshold(guesses.confidences, is_free_N, guesses.held_out, **wanted)
