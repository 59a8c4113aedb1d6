"""What every fitting is given and what it reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from app.recipes import Pick
from worker.learning.errors import ShapeError, check_shape
from worker.learning.networks import Network
from worker.learning.pool import ImageRows
from worker.learning.registry import Registry


class Stopped(StrEnum):
    """Why a fit ended."""

    EPOCHS = "epochs"
    PATIENCE = "patience"
    DEADLINE = "deadline"


class Start(StrEnum):
    """Which weights a fit began from."""

    SCRATCH = "scratch"
    PRETRAINED = "pretrained"  # published weights in the trunk, a new head
    WARM = "warm"
    TRUNK = "trunk"  # the parent's where they fit; the head is new, since classes or features changed


@dataclass(frozen=True)
class TrainingSet:
    """Labelled images on the device: ``images_NHWC`` uint8, ``labels_N`` int64, ``weights_N`` how much each counts.

    ``unlabelled`` are the images of the pool, for fittings that learn from them too; they may be none. ``is_pseudo_N``
    is true where a model gave the label: such images are fitted to and nothing is ever measured on them; None if people
    gave all.
    """

    images_NHWC: Tensor
    labels_N: Tensor
    weights_N: Tensor | None = None
    unlabelled: ImageRows | None = None
    is_pseudo_N: Tensor | None = None

    def __post_init__(self) -> None:
        check_shape("images_NHWC", self.images_NHWC.shape, ("N", "H", "W", "C"))
        count = self.images_NHWC.shape[0]
        if self.labels_N.shape != (count,):
            raise ShapeError("labels_N", (count,), self.labels_N.shape)
        if self.weights_N is not None and self.weights_N.shape != (count,):
            raise ShapeError("weights_N", (count,), self.weights_N.shape)
        if self.is_pseudo_N is not None and self.is_pseudo_N.shape != (count,):
            raise ShapeError("is_pseudo_N", (count,), self.is_pseudo_N.shape)

    def __len__(self) -> int:
        return self.images_NHWC.shape[0]

    def at(self, rows: Tensor) -> TrainingSet:
        """Return the images of some rows."""
        weights_N = None if self.weights_N is None else self.weights_N[rows]
        is_pseudo_N = None if self.is_pseudo_N is None else self.is_pseudo_N[rows]
        return TrainingSet(self.images_NHWC[rows], self.labels_N[rows], weights_N, self.unlabelled, is_pseudo_N)

    def by_people(self) -> Tensor | None:
        """Return the positions of the images that people labelled, on the CPU, ascending; None if that is all."""
        return None if self.is_pseudo_N is None else (~self.is_pseudo_N).nonzero().squeeze(1).cpu()

    def beside(self, others: TrainingSet) -> TrainingSet:
        """Return these images, then others; people labelled all of them, and each counts as much as any."""
        if any(part.weights_N is not None or part.is_pseudo_N is not None for part in (self, others)):
            raise ValueError("images that are weighed, or that models labelled, cannot stand beside others")
        images_NHWC = torch.cat([self.images_NHWC, others.images_NHWC])
        return TrainingSet(images_NHWC, torch.cat([self.labels_N, others.labels_N]), unlabelled=self.unlabelled)

    def joined(self, pseudo: TrainingSet, weight: float) -> TrainingSet:
        """Return these images, then others that models labelled, each of which counts ``weight`` times as much."""
        is_pseudo_N = torch.arange(len(self) + len(pseudo), device=self.labels_N.device) >= len(self)
        weights_N = (
            None if weight == 1 and self.weights_N is None else torch.ones_like(is_pseudo_N, dtype=torch.float32)
        )
        if weights_N is not None:
            weights_N[: len(self)] = 1 if self.weights_N is None else self.weights_N
            weights_N[len(self) :] = weight
        images_NHWC = torch.cat([self.images_NHWC, pseudo.images_NHWC])
        return TrainingSet(
            images_NHWC, torch.cat([self.labels_N, pseudo.labels_N]), weights_N, self.unlabelled, is_pseudo_N
        )


@dataclass(frozen=True)
class EpochReport:
    """One finished pass: ``epoch`` counts from 1; validation figures are None without validation images."""

    epoch: int
    loss: float
    learning_rate: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None

    @property
    def monitored(self) -> float:
        """Return the loss that decides when to stop: on validation images if there are any."""
        return self.loss if self.validation_loss is None else self.validation_loss

    def figure(self, stop_by: str) -> float:
        """Return what decides when to stop, lower is better: the loss, or the share of wrong validation images."""
        if stop_by == "loss" or self.validation_accuracy is None:
            return self.monitored
        return 1 - self.validation_accuracy


@dataclass(frozen=True)
class FitReport:
    """How a fit went; the network holds the weights of epoch ``best_epoch``, or those it began with if that is 0.

    ``begun`` has the figures of the weights it began with, None where they do not count. ``training_count`` and
    ``validation_count`` are labels of people, ``pseudo_count`` labels of models. ``temperature`` is what its logits
    have been divided by, None if nothing was measured.
    """

    epochs: tuple[EpochReport, ...]
    best_epoch: int
    steps: int
    stopped_by: Stopped
    training_count: int
    validation_count: int
    seconds: float
    started_from: Start = Start.SCRATCH
    temperature: float | None = None
    pseudo_count: int = 0
    begun: EpochReport | None = None

    @property
    def best(self) -> EpochReport:
        """Return the epoch whose weights were kept."""
        return self.begun if self.begun and not self.best_epoch else self.epochs[self.best_epoch - 1]

    @property
    def validation_accuracy(self) -> float | None:
        """Return the kept weights' share of right validation images, None without any."""
        return self.best.validation_accuracy

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values by name."""
        return {**asdict(self), "epochs": [asdict(epoch) for epoch in self.epochs]}


class Fit(Protocol):
    """Fits a network in place and leaves it in evaluation mode with the best weights."""

    def __call__(
        self,
        network: Network,
        data: TrainingSet,
        pick: Pick,
        generator: Generator,
        *,
        device: torch.device,
        deadline: float | None = None,
        on_epoch: Callable[[EpochReport], None] = ...,
        validation: TrainingSet | None = None,
    ) -> FitReport:
        """Fit ``network``, which is on ``device``, to ``data`` as ``pick`` says.

        Args:
            network: fitted in place.
            data: one or more labelled images, on the device.
            pick: the recipe's fitting and its parameters.
            generator: source of all randomness.
            device: where network and data are.
            deadline: ``time.monotonic()`` seconds after which no further epoch starts; at least one is run.
            on_epoch: called after each epoch.
            validation: images that decide when to stop, in place of a share of the labels; never trained on.
        Raises:
            RecipeError: the loss stopped being finite, or the recipe wants figures that no image is there for.
            ValueError: nothing to fit to.
        """
        ...


FITTINGS: Registry[Fit] = Registry("fitting")
