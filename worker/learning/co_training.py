"""Co-training: two networks with labels of their own teach each other what only one of them is sure of.

Who teaches whom is decided here on arrays of probabilities, and the epochs are run here. How the pair is built and
fitted to its labels beforehand, and what becomes of the labels that it gives, is the learner's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.optim import Adam

from app.recipes import Pick
from worker.learning.devices import global_seed
from worker.learning.errors import ShapeError, check_shape
from worker.learning.fitting import EpochReport, TrainingSet
from worker.learning.fitting.averaging import Averaged
from worker.learning.fitting.calibration import assign_folds
from worker.learning.fitting.course import Lesson, balance, check_loss, cores_for_steps
from worker.learning.fitting.supervised import make_optimizer, run_epoch
from worker.learning.networks import Network
from worker.learning.pool import Images, Rows, take
from worker.learning.posteriors import read_chunks
from worker.learning.posteriors.committee import Committee
from worker.learning.pseudo_labelers import PseudoLabels

NOBODY = -1


class Source(StrEnum):
    """Whose sure labels a network learns from in an epoch, beside the labels of people."""

    OTHER = "other"
    OWN = "own"
    NOBODY = "nobody"


@dataclass(frozen=True)
class Teaching:
    """For each of N images which network teaches it, 0 or 1, or -1 for neither; what the teacher says and how sure.

    Where neither teaches, the class and the confidence are those of the first network.
    """

    teachers_N: Tensor
    classes_N: Tensor
    confidences_N: Tensor


def find_teachers(probs_A_NC: Tensor, probs_B_NC: Tensor, threshold: float) -> Teaching:
    """Find the images on which two networks differ while one of them is sure and the other is not.

    A network is sure of an image if its largest probability is at or above the threshold. As only one of the two is
    sure, no image has two teachers.

    Args:
        probs_A_NC: probabilities that the first network gives, on any device.
        probs_B_NC: those of the second.
        threshold: least probability of the likeliest class.
    Raises:
        ShapeError: other axes, or other sizes for one network than for the other.
    References: source C (co-training on Caltech-101); Blum and Mitchell 1998.
    """
    check_shape("probs_A_NC", probs_A_NC.shape, ("N", "C"))
    if probs_B_NC.shape != probs_A_NC.shape:
        raise ShapeError("probs_B_NC", probs_A_NC.shape, probs_B_NC.shape)
    sure_A_N, sure_B_N = probs_A_NC.amax(dim=1), probs_B_NC.amax(dim=1)
    classes_A_N, classes_B_N = probs_A_NC.argmax(dim=1), probs_B_NC.argmax(dim=1)
    differs_N = classes_A_N != classes_B_N
    is_A_N = differs_N & (sure_A_N >= threshold) & (sure_B_N < threshold)
    is_B_N = differs_N & (sure_B_N >= threshold) & (sure_A_N < threshold)
    teachers_N = torch.full_like(classes_A_N, NOBODY).masked_fill(is_A_N, 0).masked_fill(is_B_N, 1)
    return Teaching(teachers_N, torch.where(is_B_N, classes_B_N, classes_A_N), torch.where(is_B_N, sure_B_N, sure_A_N))


def source_of(epoch: int, condition: int, own_epochs: str) -> Source:
    """Say whose sure labels are learned from in an epoch, counted from 1.

    Args:
        epoch: 1 or more.
        condition: 1: always the other's; 2: by turns the other's and its own; 0: nobody's.
        own_epochs: "even" or "odd", the epochs in which condition 2 turns to its own.
    References: source C, whose text says both orders of condition 2.
    """
    if condition == 0:
        return Source.NOBODY
    is_own = condition == 2 and epoch % 2 == (own_epochs == "odd")
    return Source.OWN if is_own else Source.OTHER


def halve(labels_N: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Deal labelled images out to two networks: positions, each class as evenly as can be, none to both."""
    halves_N = assign_folds(labels_N, 2, generator)
    return (halves_N == 0).nonzero().squeeze(1), (halves_N == 1).nonzero().squeeze(1)


@dataclass(frozen=True)
class Pupil:
    """One network of a pair, in evaluation mode, the labels that it was fitted to, and its source of draws."""

    network: Network
    labelled: TrainingSet
    generator: Generator


@dataclass(frozen=True)
class PairEpoch:
    """The pair after an epoch of co-training; epoch 0 is the pair as it came.

    ``taken`` are the images that the first and the second network taught in this epoch, ``losses`` the mean losses of
    both while they learned, None in epoch 0. ``networks`` are in evaluation mode and go on learning afterwards.
    """

    epoch: int
    source: Source
    taken: tuple[PseudoLabels, PseudoLabels]
    losses: tuple[float, float] | None
    networks: tuple[Network, Network]

    @property
    def loss(self) -> float | None:
        """Return the mean of both losses."""
        return None if self.losses is None else sum(self.losses) / 2

    def as_json(self) -> dict[str, Any]:
        """Return the epoch as plain JSON values by name."""
        sizes = {"taken_a": len(self.taken[0]), "taken_b": len(self.taken[1])}
        loss_a, loss_b = self.losses or (None, None)
        return {"epoch": self.epoch, "source": self.source.value, **sizes, "loss_a": loss_a, "loss_b": loss_b}


OnPairEpoch = Callable[[PairEpoch], None]


def co_train(
    pupils: tuple[Pupil, Pupil],
    inputs: Images,
    rows: Rows,
    pick: Pick,
    fitting: Pick,
    *,
    device: torch.device,
    deadline: float | None = None,
    on_epoch: OnPairEpoch = lambda _epoch: None,
) -> PairEpoch:
    """Let two networks, each fitted to labels of its own, learn from what only one of them is sure of.

    Each epoch looks at all unlabelled images anew, whatever was taken before, and then goes once through the labels
    that ``labelled`` gives a network and what it is taught. The optimizers begin anew and keep their moments from epoch
    to epoch. With ``average``, it is the networks of averaged weights that teach, are told of and remain.

    Args:
        pupils: the pair; its networks are trained in place and left in evaluation mode.
        inputs: all images.
        rows: the unlabelled ones.
        pick: the pseudo-labeler ``co_training`` and its parameters.
        fitting: the supervised fitting, for its minibatches, weight decay, augmentation and weights of classes.
        device: where the networks are.
        deadline: ``time.monotonic()`` seconds after which no further epoch starts; at least one is run.
        on_epoch: called before the first epoch and after each.
    Returns:
        the last epoch.
    References: source C; Tarvainen and Valpola 2017 (averaged weights as the teacher).
    """
    fitting = _meanwhile(fitting, pick)
    optimizers = tuple(make_optimizer(pupil.network, fitting) for pupil in pupils)
    averages = tuple(Averaged(pupil.network, pick.number("average")) for pupil in pupils)
    networks = (averages[0].network, averages[1].network)
    nothing = (PseudoLabels.none(), PseudoLabels.none())
    last = PairEpoch(0, Source.NOBODY, nothing, None, networks)
    on_epoch(last)
    for epoch in range(1, pick.integer("epochs") + 1):
        if epoch > 1 and deadline is not None and time.monotonic() >= deadline:
            break
        source = source_of(epoch, pick.integer("condition"), pick.text("own_epochs"))
        taken = nothing if source is Source.NOBODY else take_sure(networks, inputs, rows, pick, device)
        losses = list[float]()
        for own, pupil in enumerate(pupils):
            taught = taken[own if source is Source.OWN else 1 - own]
            data = _what_to_learn(_labels_along(pupils, own, source, pick), inputs, taught, pick, fitting)
            losses.append(_learn(pupil, data, fitting, optimizers[own], averages[own], epoch=epoch))
        last = PairEpoch(epoch, source, taken, (losses[0], losses[1]), networks)
        on_epoch(last)
    for average in averages:
        average.settle()
    return last


def take_sure(
    networks: tuple[Network, Network], inputs: Images, rows: Rows, pick: Pick, device: torch.device
) -> tuple[PseudoLabels, PseudoLabels]:
    """Read images with both networks, chunk by chunk; return what the first and what the second teaches.

    Args:
        networks: the pair, in evaluation mode.
        inputs: all images.
        rows: those to look at, ascending.
        pick: the pseudo-labeler, for its ``confidence``.
        device: where the networks are.
    """
    found = list[Teaching]()
    for _, reading in read_chunks(Committee(networks), inputs, rows, device):
        probs_A_NC, probs_B_NC = reading.log_probs_SNC.exp()
        found.append(find_teachers(probs_A_NC, probs_B_NC, pick.number("confidence")))
    if not found:
        return PseudoLabels.none(), PseudoLabels.none()
    teachers_N, classes_N, confidences_N = (
        torch.cat([getattr(one, name) for one in found]).cpu().numpy()
        for name in ("teachers_N", "classes_N", "confidences_N")
    )
    first, second = (
        PseudoLabels(rows[is_taught], classes_N[is_taught], confidences_N[is_taught].astype(np.float32))
        for is_taught in (teachers_N == 0, teachers_N == 1)
    )
    return first, second


def _meanwhile(fitting: Pick, pick: Pick) -> Pick:
    """Return the fitting with what the pseudo-labeler says in its place: the step size, and whether images change."""
    augment = {"on": True, "off": False}.get(pick.text("augment"), fitting.switch("augment"))
    rate = pick.number("learning_rate")
    return Pick(fitting.name, {**fitting.parameters, "learning_rate": rate, "augment": augment})


def _labels_along(pupils: tuple[Pupil, Pupil], own: int, source: Source, pick: Pick) -> TrainingSet:
    """Return what people labelled and one network, 0 or 1, goes on with in an epoch, whatever it is taught besides."""
    whose = pick.text("labelled")
    if whose == "both":
        return pupils[0].labelled.beside(pupils[1].labelled)
    is_others = whose == "source" and source is Source.OTHER  # where the source is nobody, its own
    return pupils[1 - own if is_others else own].labelled


def _what_to_learn(
    labelled: TrainingSet, inputs: Images, taught: PseudoLabels, pick: Pick, fitting: Pick
) -> TrainingSet:
    data, device = labelled, labelled.labels_N.device
    if len(taught) and pick.number("weight"):
        labels_K = torch.from_numpy(taught.labels).to(device)
        data = data.joined(TrainingSet(take(inputs, taught.rows, device), labels_K), pick.number("weight"))
    return balance(data) if fitting.text("class_weights") == "balanced" else data


def _learn(pupil: Pupil, data: TrainingSet, fitting: Pick, optimizer: Adam, average: Averaged, *, epoch: int) -> float:
    device = data.labels_N.device
    nothing = data.at(torch.empty(0, dtype=torch.int64, device=device))
    lesson = Lesson(pupil.network, data, nothing, fitting, pupil.generator, device, None, lambda _report: None)
    with global_seed(pupil.generator, device), cores_for_steps(data, fitting):
        loss, _ = run_epoch(lesson, optimizer, after_step=average.move)
    pupil.network.eval()
    check_loss(EpochReport(epoch, loss, fitting.number("learning_rate")))
    return loss
