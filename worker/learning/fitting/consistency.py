"""Fitting to labels and to the pool: what is sure of a weak view has to hold for a strong one."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Adam

from worker.learning.augmentation import change, changes_for
from worker.learning.devices import mixed_precision
from worker.learning.errors import check_shape
from worker.learning.fitting.averaging import Averaged
from worker.learning.fitting.base import FITTINGS, EpochReport, TrainingSet
from worker.learning.fitting.course import Course, Lesson, check_loss, fitting, validate, weighted_loss
from worker.learning.fitting.stopping import BestWeights
from worker.learning.pool import epoch_minibatches, normalise


def teach_consistency(lesson: Lesson) -> Course:
    """Fit to labelled images and, where the network is sure, to its own answers on unlabelled ones.

    An unlabelled image is shown twice: the class of the weak view, if its probability passes the threshold, is the
    label of the strong view. The learning rate falls along a cosine over the steps that are planned; there is no other
    reason to stop early than the deadline. Kept are the averaged weights of the last epoch or, with a validation share,
    of the epoch with the least validation loss. Without a pool it is the labelled images that are shown twice.

    References: Sohn et al. 2020 (FixMatch, algorithm 1); Tarvainen and Valpola 2017 (averaged weights).
    """
    teaching = _Teaching(lesson)
    best, best_epoch, best_loss = BestWeights(teaching.averaged.network), 1, math.inf
    reports, stopped_by = list[EpochReport](), None
    while stopped_by is None:
        rate = float(teaching.optimizer.param_groups[0]["lr"])
        loss = teaching.run_epoch()
        report = EpochReport(len(reports) + 1, loss, rate, *validate(teaching.averaged.network, lesson.validation))
        check_loss(report)
        if report.validation_loss is None or report.validation_loss < best_loss:
            best_epoch, best_loss = report.epoch, report.monitored
            best.keep()
        reports.append(report)
        lesson.on_epoch(report)
        stopped_by = lesson.reason_to_stop(report.epoch)
    best.restore()
    teaching.averaged.settle()
    return Course(tuple(reports), best_epoch, teaching.steps, stopped_by)


class _Teaching:
    """The network that learns, the average of its weights, and the steps taken so far."""

    def __init__(self, lesson: Lesson) -> None:
        pick = lesson.pick
        self.lesson, self.steps = lesson, 0
        self.averaged = Averaged(lesson.network, pick.number("average"))
        decay = pick.number("weight_decay")
        self.optimizer = Adam(lesson.network.parameters(), pick.number("learning_rate"), weight_decay=decay, fused=True)
        self._weak, self._strong = changes_for(pick.text("views"), lesson.training.images_NHWC.shape[-1])

    def run_epoch(self) -> float:
        """Take one pass of gradient steps; return their mean loss."""
        lesson, pick = self.lesson, self.lesson.pick
        data, sizes = lesson.training, (pick.integer("minibatch"), pick.integer("least_steps"))
        lesson.network.train()
        minibatches = epoch_minibatches(len(data), *sizes, lesson.generator)
        losses = torch.zeros(len(minibatches), device=lesson.device)
        for step, rows in enumerate(minibatches):
            self._slow_down(pick.integer("epochs") * len(minibatches))
            loss = self._loss(data.at(rows.to(lesson.device)))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
            self.optimizer.step()
            self.steps += 1
            self.averaged.move()
            losses[step] = loss.detach()
        return float(losses.mean())

    def _loss(self, labelled: TrainingSet) -> Tensor:
        lesson, pick = self.lesson, self.lesson.pick
        pool_NCHW = normalise(self._draw(pick.integer("unlabelled_minibatch")))
        weak_NCHW = change(pool_NCHW, self._weak, lesson.generator)
        strong_NCHW = change(pool_NCHW, self._strong, lesson.generator)
        labelled_NCHW = change(normalise(labelled.images_NHWC), self._weak, lesson.generator)
        with mixed_precision(lesson.device):
            with torch.no_grad():
                weak_NC = lesson.network(weak_NCHW).float()
            logits_NC = lesson.network(torch.cat([labelled_NCHW, strong_NCHW])).float()
        known_NC, strong_NC = logits_NC.tensor_split([len(labelled)])
        unlabelled = consistency_loss(weak_NC, strong_NC, pick.number("threshold"))
        return weighted_loss(known_NC, labelled) + pick.number("unlabelled_weight") * unlabelled

    def _draw(self, count: int) -> Tensor:
        """Draw images of the pool, with replacement; without a pool, of the labelled images."""
        pool, data, generator = self.lesson.training.unlabelled, self.lesson.training, self.lesson.generator
        if pool is None or not len(pool):
            return data.images_NHWC[torch.randint(len(data), (count,), generator=generator).to(self.lesson.device)]
        return pool.at(torch.randint(len(pool), (count,), generator=generator))

    def _slow_down(self, planned: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.lesson.pick.number("learning_rate") * math.cos(7 / 16 * math.pi * self.steps / planned)


def consistency_loss(weak_NC: Tensor, strong_NC: Tensor, threshold: float) -> Tensor:
    """Cross-entropy of strong views with the classes of their weak views, over those that are sure, by all.

    Args:
        weak_NC: logits of weak views; nothing is learned through them.
        strong_NC: logits of strong views of the same images.
        threshold: least probability of the likeliest class of a weak view that counts.
    Returns:
        a mean in nats over all N images; an image that is not sure adds 0.
    Raises:
        ShapeError: other than two equal shapes [N, C].
    References: Sohn et al. 2020, equation 4.
    """
    check_shape("weak_NC", weak_NC.shape, ("N", "C"))
    check_shape("strong_NC", strong_NC.shape, tuple(weak_NC.shape))
    confidence_N, classes_N = torch.softmax(weak_NC.detach(), dim=1).max(dim=1)
    losses_N = functional.cross_entropy(strong_NC, classes_N, reduction="none")
    return (losses_N * (confidence_N >= threshold)).mean()


FITTINGS.add("consistency", fitting(teach_consistency))
