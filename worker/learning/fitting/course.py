"""The frame around every fitting: labels kept aside, weights of classes, seeds, temperature, the report."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Generator, Tensor
from torch.nn import functional

from app.errors import RecipeError
from app.recipes import Pick
from worker.learning.devices import cores_for, global_seed, mixed_precision
from worker.learning.fitting.base import EpochReport, Fit, FitReport, Stopped, TrainingSet
from worker.learning.fitting.calibration import assign_folds, best_temperature, scale_logits
from worker.learning.fitting.splitting import split
from worker.learning.networks import Network
from worker.learning.pool import chunk_slices, normalise

OnEpoch = Callable[[EpochReport], None]
# Pixels of a minibatch: 32 images of 28 x 28 are just below, 32 of 32 x 32 reach it.
_WORTH_ALL_CORES = 2**15
_FOLDS = 3


@dataclass(frozen=True)
class Course:
    """How the epochs of a fit went; ``begun`` as in ``FitReport``."""

    epochs: tuple[EpochReport, ...]
    best_epoch: int
    steps: int
    stopped_by: Stopped
    begun: EpochReport | None = None


@dataclass(frozen=True)
class Lesson:
    """What a fitting's own loop works on: everything on the device, the labels split, the classes weighed."""

    network: Network
    training: TrainingSet
    validation: TrainingSet
    pick: Pick
    generator: Generator
    device: torch.device
    deadline: float | None
    on_epoch: OnEpoch

    def reason_to_stop(self, epoch: int) -> Stopped | None:
        """Return why no epoch should follow ``epoch``, apart from patience."""
        if epoch >= self.pick.integer("epochs"):
            return Stopped.EPOCHS
        return Stopped.DEADLINE if self.deadline is not None and time.monotonic() >= self.deadline else None


class Teach(Protocol):
    """A fitting's own loop; it leaves the network with the weights to keep."""

    def __call__(self, lesson: Lesson) -> Course:
        """Run the epochs of one fit."""
        ...


def fitting(teach: Teach) -> Fit:
    """Make a fitting as ``Fit`` describes out of its loop."""

    def fit(
        network: Network,
        data: TrainingSet,
        pick: Pick,
        generator: Generator,
        *,
        device: torch.device,
        deadline: float | None = None,
        on_epoch: OnEpoch = lambda _report: None,
        validation: TrainingSet | None = None,
    ) -> FitReport:
        if not len(data):
            raise ValueError("there are no labelled images to fit to")
        way = pick.text("temperature")
        _check_validation(pick, validation)
        started = time.monotonic()
        first = copy.deepcopy(network) if way == "cross_fit" else None
        rows, validation_rows = split(data, pick.number("validation_share"), generator)
        training = data.at(rows.to(device))
        validation = data.at(validation_rows.to(device)) if validation is None else validation
        if pick.text("class_weights") == "balanced":
            training = balance(training)
        lesson = Lesson(network, training, validation, pick, generator, device, deadline, on_epoch)
        with global_seed(generator, device), cores_for_steps(data, pick):
            course = teach(lesson)
            network.eval()
            temperature = None
            if way == "validation" and len(validation):
                temperature = best_temperature(predict(network, validation), validation.labels_N)
            elif first is not None and course.stopped_by is not Stopped.DEADLINE:
                temperature = _cross_fit_temperature(teach, first, lesson)
        if temperature is not None:
            scale_logits(network, 1 / temperature)
        pseudo_count = 0 if data.is_pseudo_N is None else int(data.is_pseudo_N.sum())
        return FitReport(
            epochs=course.epochs,
            best_epoch=course.best_epoch,
            steps=course.steps,
            stopped_by=course.stopped_by,
            training_count=len(rows) - pseudo_count,
            validation_count=len(validation),
            seconds=time.monotonic() - started,
            temperature=temperature,
            pseudo_count=pseudo_count,
            begun=course.begun,
        )

    return fit


def _check_validation(pick: Pick, given: TrainingSet | None) -> None:
    """Raise RecipeError if the recipe measures on images that are not there, or keeps more aside than was given."""
    share = pick.number("validation_share")
    if given is not None and share:
        reason = "there are images for validation, so no labels are kept aside"
        raise RecipeError("fitting.validation_share", reason, "set it to 0")
    if given is not None or share:
        return
    if pick.text("temperature") == "validation":
        remedy = "set fitting.validation_share, or use cross_fit"
        raise RecipeError("fitting.temperature", "there are no validation labels to measure it on", remedy)
    if pick.parameters.get("stop_by") == "accuracy":
        remedy = "set fitting.validation_share, or use loss"
        raise RecipeError("fitting.stop_by", "there are no validation labels to measure accuracy on", remedy)


def balance(data: TrainingSet) -> TrainingSet:
    """Weigh images so that every class at hand counts as much as any other and the mean weight stays what it was."""
    weights_N = torch.ones_like(data.labels_N, dtype=torch.float32) if data.weights_N is None else data.weights_N
    _, classes_N = torch.unique(data.labels_N, return_inverse=True)
    totals_C = torch.bincount(classes_N, weights=weights_N)
    share_C = weights_N.sum() / (len(totals_C) * totals_C.clamp_min(torch.finfo(torch.float32).tiny))
    return replace(data, weights_N=(weights_N * share_C[classes_N]).float())


def weighted_loss(logits_NC: Tensor, data: TrainingSet) -> Tensor:
    """Mean cross-entropy in nats; with weights, each image counts as much as its weight says."""
    if data.weights_N is None:
        return functional.cross_entropy(logits_NC, data.labels_N)
    losses_N = functional.cross_entropy(logits_NC, data.labels_N, reduction="none")
    return (losses_N * data.weights_N).mean()


def validate(network: Network, data: TrainingSet) -> tuple[float | None, float | None]:
    """Mean loss and accuracy over images that are never trained on; None and None if there are none."""
    if not len(data):
        return None, None
    logits_NC = predict(network, data)
    loss = functional.cross_entropy(logits_NC, data.labels_N)
    return float(loss), float((logits_NC.argmax(dim=1) == data.labels_N).float().mean())


def predict(network: Network, data: TrainingSet) -> Tensor:
    """Return logits_NC in evaluation mode, where the network is left."""
    network.eval()
    logits = list[Tensor]()
    for part in chunk_slices(len(data), 1024):
        with torch.inference_mode(), mixed_precision(data.labels_N.device):
            logits.append(network(normalise(data.images_NHWC[part])).float())
    return torch.cat(logits)


def check_loss(report: EpochReport) -> None:
    """Raise RecipeError if the loss that decides is NaN or infinite."""
    if not math.isfinite(report.monitored):
        raise RecipeError("fitting.learning_rate", f"the loss was lost in epoch {report.epoch}", "use less")


def cores_for_steps(data: TrainingSet, pick: Pick) -> AbstractContextManager[None]:
    """Compute on as many cores as a gradient step on these images is worth."""
    pixels = min(len(data), pick.integer("minibatch")) * data.images_NHWC.shape[1] ** 2
    return cores_for(pixels, _WORTH_ALL_CORES)


def _cross_fit_temperature(teach: Teach, first: Network, lesson: Lesson) -> float | None:
    """Fit copies of the first network to two thirds of the labels each and measure on what each was not shown.

    Fits to fewer labels are less right, so this errs towards doubt. Labels of models are shown to every copy and none
    is measured on them; the models that gave them knew all labels, which errs towards certainty. None if there are too
    few labels, or the deadline cuts a copy short: half a fit says nothing about a whole one.
    """
    whole, people = lesson.training, lesson.training.by_people()
    labels_N = whole.labels_N.cpu() if people is None else whole.labels_N.cpu()[people]
    if len(labels_N) < 2 * _FOLDS:
        return None
    folds_N = assign_folds(labels_N, _FOLDS, lesson.generator)
    if people is not None:
        folds_N = torch.full((len(whole),), _FOLDS).index_copy(0, people, folds_N)
    folds_N = folds_N.to(lesson.device)
    logits, labels = list[Tensor](), list[Tensor]()
    for fold in range(_FOLDS):
        network = copy.deepcopy(first)
        part, rest = whole.at((folds_N != fold).nonzero().squeeze(1)), whole.at((folds_N == fold).nonzero().squeeze(1))
        copied = Lesson(
            network, part, lesson.validation, lesson.pick, lesson.generator, lesson.device, lesson.deadline, _no_report
        )
        if teach(copied).stopped_by is Stopped.DEADLINE:
            return None
        logits.append(predict(network, rest))
        labels.append(rest.labels_N)
    return best_temperature(torch.cat(logits), torch.cat(labels))


def _no_report(_report: EpochReport) -> None:
    return None
