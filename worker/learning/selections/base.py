"""What every batch selection is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from app.recipes import Value
from worker.learning.errors import NotFiniteError, ShapeError, check_shape
from worker.learning.registry import Registry


@dataclass(frozen=True)
class Scored:
    """The images a batch is chosen from, all on the CPU.

    ``scores_N`` higher = ask sooner; ``pending_N`` true where an image is asked already and must not be chosen again;
    ``count`` is how many images are ranked. The first ``batch_size`` of them are the next batch (all, if it is None);
    the others are its reserve. What a selection does not say that it needs is None: ``features_ND`` of these images,
    ``labelled_features_LD`` of the labelled ones, ``log_probs_NC`` of the mean prediction, ``read_log_probs``,
    which returns log_probs_SNC of the posterior's samples at some positions. ``read_looks`` returns what images look
    like without any network, [n + L, D]: those at n positions and, after them, the labelled ones.
    ``labels_per_class`` is how many labels there are for each class on average, whatever the selection needs;
    ``note_typical`` is told the positions that were chosen as typical of a cluster, whatever their scores.
    """

    scores_N: Tensor
    pending_N: Tensor
    count: int
    generator: Generator
    parameters: Mapping[str, Value] = field(default_factory=dict)
    features_ND: Tensor | None = None
    labelled_features_LD: Tensor | None = None
    log_probs_NC: Tensor | None = None
    read_log_probs: Callable[[Tensor], Tensor] | None = None
    read_looks: Callable[[Tensor], Tensor] | None = None
    batch_size: int | None = None
    labels_per_class: float = 0.0
    note_typical: Callable[[Tensor], None] = lambda _positions: None

    def __post_init__(self) -> None:
        check_scores(self.scores_N, self.pending_N, self.count)
        images = len(self.scores_N)
        for name, array, shape in (
            ("features_ND", self.features_ND, (images, "D")),
            ("labelled_features_LD", self.labelled_features_LD, ("L", "D")),
            ("log_probs_NC", self.log_probs_NC, (images, "C")),
        ):
            if array is not None:
                check_shape(name, array.shape, shape)
        for name, array in (("features_ND", self.features_ND), ("labelled_features_LD", self.labelled_features_LD)):
            if array is not None and not bool(torch.isfinite(array).all()):
                raise NotFiniteError(f"{name}: a feature is NaN or infinite")

    @property
    def batch(self) -> int:
        """Return B, the size of the next batch."""
        return self.count if self.batch_size is None else min(self.batch_size, self.count)

    @property
    def seen_features(self) -> Tensor:
        """Return the features, to a selection that needs them."""
        return _there("features", self.features_ND)

    @property
    def known_features(self) -> Tensor:
        """Return the features of the labelled images, to a selection that needs them; there may be none."""
        return self.seen_features[:0] if self.labelled_features_LD is None else self.labelled_features_LD

    def looks_at(self, positions: Tensor) -> Tensor:
        """Return what images at positions and all labelled ones look like, to a selection that needs it."""
        if self.read_looks is None:
            raise ValueError("this selection needs looks, and was given none")
        return self.read_looks(positions)

    @property
    def seen_predictions(self) -> Tensor:
        """Return the mean prediction, to a selection that needs it."""
        return _there("predictions", self.log_probs_NC)


@dataclass(frozen=True)
class Selection:
    """An entry of the registry.

    ``select`` returns positions in ``scores_N``, best first, each at most once: ``count`` of them, or all that are not
    pending. ``follows_scores`` says that the order is that of the scores and nothing else, so uniform scores give a
    uniform draw; ``ignores_scores``, that they play no part but where nothing else decides. The ``needs_*`` say what it
    must be given. A selection that draws by known weights returns their logarithms_N as ``draw_logits``; the chance of
    each choice follows from them.
    """

    select: Callable[[Scored], Tensor]
    needs_features: bool = False
    follows_scores: bool = False
    ignores_scores: bool = False
    needs_labelled: bool = False
    needs_log_probs: bool = False
    needs_samples: bool = False
    needs_looks: bool = False
    draw_logits: Callable[[Scored], Tensor] | None = None


SELECTIONS: Registry[Selection] = Registry("selection")


def check_scores(scores_N: Tensor, pending_N: Tensor, count: int) -> None:
    """Check what a selection is given.

    Raises:
        ShapeError: scores of other than one axis, or a mask of another length.
        NotFiniteError: a score that is NaN or infinite.
        ValueError: a count below zero, or a mask that is not boolean.
    """
    if scores_N.ndim != 1:
        raise ShapeError("scores_N", ("N",), scores_N.shape)
    if pending_N.shape != scores_N.shape:
        raise ShapeError("pending_N", scores_N.shape, pending_N.shape)
    if pending_N.dtype != torch.bool:
        raise ValueError(f"pending_N: expected booleans, got {pending_N.dtype}")
    if not bool(torch.isfinite(scores_N).all()):
        raise NotFiniteError("scores_N: a score is NaN or infinite")
    if count < 0:
        raise ValueError(f"count: {count} images cannot be chosen")


def _there(what: str, array: Tensor | None) -> Tensor:
    if array is None:
        raise ValueError(f"this selection needs {what}, and was given none")
    return array
