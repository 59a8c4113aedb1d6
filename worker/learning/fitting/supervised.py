"""Fitting to labels alone: Adam, early stopping with the best weights restored, a learning rate that halves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.optim import Adam

from app.recipes import Pick
from worker.learning.augmentation import change, changes_for
from worker.learning.devices import mixed_precision
from worker.learning.fitting.averaging import Averaged
from worker.learning.fitting.base import FITTINGS, EpochReport, Stopped
from worker.learning.fitting.course import Course, Lesson, check_loss, fitting, predict, validate, weighted_loss
from worker.learning.fitting.stopping import BestWeights, Plateau
from worker.learning.networks import Network
from worker.learning.pool import epoch_minibatches, normalise


def teach_supervised(lesson: Lesson) -> Course:
    """Fit to labelled images; one class is enough, though it teaches nothing.

    By loss the first epoch is the first that can be kept. By accuracy the weights that the fit begins with can be, so
    that a fit that goes on from earlier ones never does worse than they on the validation images. With ``average`` it
    is the averaged weights that are measured on the validation images and kept; the training loss is that of the live
    ones.

    References: Kingma and Ba 2015 (Adam); source A (early stopping and learning-rate reduction); Tarvainen and Valpola
    2017 (averaged weights).
    """
    network, pick = lesson.network, lesson.pick
    optimizer, averaged = make_optimizer(network, pick), Averaged(network, pick.number("average"))
    plateau = Plateau(pick.integer("patience"), pick.integer("reduce_after"))
    begun = measure_start(lesson)
    if begun is not None:
        plateau.best_loss = begun.figure("accuracy")
    best, reports, steps = BestWeights(averaged.network), list[EpochReport](), 0
    stopped_by = None
    while stopped_by is None:
        rate = float(optimizer.param_groups[0]["lr"])
        loss, epoch_steps = run_epoch(lesson, optimizer, after_step=averaged.move)
        steps += epoch_steps
        report = EpochReport(len(reports) + 1, loss, rate, *validate(averaged.network, lesson.validation))
        check_loss(report)
        if plateau.see(report.figure(pick.text("stop_by"))):
            best.keep()
        reports.append(report)
        lesson.on_epoch(report)
        stopped_by = Stopped.PATIENCE if plateau.is_over else lesson.reason_to_stop(report.epoch)
        plateau.slow_down(optimizer)
    best.restore()
    averaged.settle()
    return Course(tuple(reports), plateau.best_epoch, steps, stopped_by, begun)


def measure_start(lesson: Lesson) -> EpochReport | None:
    """Return the figures of the weights that a fit begins with, as epoch 0; None where they do not count."""
    network, data, pick = lesson.network, lesson.training, lesson.pick
    if pick.text("stop_by") == "loss" or not len(lesson.validation):
        return None
    loss = float(weighted_loss(predict(network, data), data))
    return EpochReport(0, loss, pick.number("learning_rate"), *validate(network, lesson.validation))


def make_optimizer(network: Network, pick: Pick) -> Adam:
    """Return Adam for all weights of a network, at the first step size of a supervised fitting."""
    rate, decay = pick.number("learning_rate"), pick.number("weight_decay")
    return Adam(network.parameters(), rate, weight_decay=decay, fused=True)


def run_epoch(lesson: Lesson, optimizer: Adam, after_step: Callable[[], None] = lambda: None) -> tuple[float, int]:
    """Take one pass of gradient steps, calling ``after_step`` after each; return their mean loss and their number."""
    network, data, pick, generator = lesson.network, lesson.training, lesson.pick, lesson.generator
    network.train()
    weak, _ = changes_for(pick.text("views"), data.images_NHWC.shape[-1])
    minibatches = epoch_minibatches(len(data), pick.integer("minibatch"), pick.integer("least_steps"), generator)
    losses = torch.zeros(len(minibatches), device=lesson.device)
    for step, rows in enumerate(minibatches):
        part = data.at(rows.to(lesson.device))
        images_NCHW = normalise(part.images_NHWC)
        if pick.switch("augment"):
            images_NCHW = change(images_NCHW, weak, generator)
        with mixed_precision(lesson.device):
            logits_NC = network(images_NCHW)
        loss = weighted_loss(logits_NC.float(), part)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
        optimizer.step()
        after_step()
        losses[step] = loss.detach()
    return float(losses.mean()), len(minibatches)


FITTINGS.add("supervised", fitting(teach_supervised))
