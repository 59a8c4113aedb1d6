"""What goes into a loop step, what comes out of it, and what it tells meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from worker.learning.errors import ShapeError
from worker.learning.evaluation import Evaluation
from worker.learning.features import FeatureTable
from worker.learning.fitting import FitReport
from worker.learning.pool import Images, Rows, check_images, check_rows
from worker.learning.pseudo_labelers import PseudoLabels
from worker.learning.ranking import Ranking


class Stage(StrEnum):
    """What a step is doing."""

    READING = "reading"  # features of a frozen trunk
    FITTING = "fitting"
    EVALUATING = "evaluating"
    SCORING = "scoring"
    SELECTING = "selecting"


@dataclass(frozen=True)
class Progress:
    """How far a stage is: epoch ``done`` of ``total`` with its losses while fitting, images otherwise."""

    stage: Stage
    done: int
    total: int
    loss: float | None = None
    validation_accuracy: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """What a round learns from.

    ``images_NHWC`` holds all images of the project as uint8 at the recipe's ``image_side``, in memory or memory-mapped;
    everything else is int64 rows of it, and classes from 0 to ``class_count`` - 1. ``candidate_rows`` may be asked
    about: unlabelled, not pending, usable, of the pool split. The test rows may be none.

    ``pseudo`` are the labels that earlier models gave and that still stand; their rows are not labelled and may be
    candidates. ``is_drawn_N`` says which labelled rows were drawn uniformly (seed set and random queries), a fair
    sample of the pool; None when nobody knows. ``is_spent`` says that no human labels are left in the budget.

    ``validation_rows`` are images that fits look at to decide when to stop, in place of a share of the labels; nothing
    is fitted to them. They may be none.
    """

    images_NHWC: Images
    class_count: int
    labelled_rows: Rows
    labels: Rows
    candidate_rows: Rows
    test_rows: Rows = field(default_factory=lambda: np.empty(0, np.int64))
    test_labels: Rows = field(default_factory=lambda: np.empty(0, np.int64))
    pseudo: PseudoLabels = field(default_factory=PseudoLabels.none)
    is_drawn_N: np.ndarray | None = None
    is_spent: bool = False
    validation_rows: Rows = field(default_factory=lambda: np.empty(0, np.int64))
    validation_labels: Rows = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        check_images(self.images_NHWC)
        for name in ("labelled", "candidate", "test", "validation"):
            check_rows(f"{name}_rows", getattr(self, f"{name}_rows"), len(self.images_NHWC))
        for name, rows, labels in (
            ("labels", self.labelled_rows, self.labels),
            ("test_labels", self.test_rows, self.test_labels),
            ("validation_labels", self.validation_rows, self.validation_labels),
            ("pseudo.labels", self.pseudo.rows, self.pseudo.labels),
        ):
            if labels.shape != rows.shape:
                raise ShapeError(name, rows.shape, labels.shape)
            check_rows(name, labels, self.class_count)
        others = (self.labelled_rows, self.candidate_rows, self.pseudo.rows)
        if len(self.validation_rows) and np.isin(self.validation_rows, np.concatenate(others)).any():
            raise ValueError("validation_rows: a row is for validation and labelled, or may be asked about")
        check_rows("pseudo.rows", self.pseudo.rows, len(self.images_NHWC))
        if np.isin(self.pseudo.rows, self.labelled_rows).any():
            raise ValueError("pseudo.rows: a row has the label of a person and that of a model")
        if self.is_drawn_N is not None and self.is_drawn_N.shape != self.labelled_rows.shape:
            raise ShapeError("is_drawn_N", self.labelled_rows.shape, self.is_drawn_N.shape)


@dataclass(frozen=True)
class StepResult:
    """What a round found.

    ``weights``, ``fit`` and ``evaluation`` are None on a cold start; ``evaluation`` also without test rows. Of a
    committee, ``weights`` hold all members and ``fit`` reports the first. ``scores`` [N] float32 belong to the
    snapshot's ``candidate_rows``, one each. ``features`` is what a frozen trunk has read so far, for the next round;
    None with a trained one. ``pseudo`` are all labels of models that stand from now on, in place of the snapshot's;
    None when the recipe has no pseudo-labeler. ``pseudo_report`` says in plain JSON values how they were chosen, such
    as the ``threshold``, or the ``reason`` why there are none. ``mean_pool_entropy`` is the mean entropy, in nats, of
    the mean predictions of the candidates; None if none was read, which asking at random does without.
    """

    weights: bytes | None
    fit: FitReport | None
    evaluation: Evaluation | None
    ranking: Ranking
    scores: np.ndarray
    seconds_fit: float
    seconds_evaluate: float
    seconds_score: float
    seconds_select: float
    features: FeatureTable | None = None
    pseudo: PseudoLabels | None = None
    pseudo_report: Mapping[str, Any] = field(default_factory=dict)
    mean_pool_entropy: float | None = None


Report = Callable[[Progress], None]
