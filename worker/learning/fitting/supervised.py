"""Fitting to labels alone: Adam, early stopping with the best weights restored, a learning rate that halves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional
from torch.optim import Adam

from app.errors import RecipeError
from app.recipes import Pick
from worker.learning.augmentation import jitter
from worker.learning.devices import cores_for, global_seed, mixed_precision
from worker.learning.fitting.base import FITTINGS, EpochReport, FitReport, Stopped, TrainingSet
from worker.learning.fitting.splitting import stratified_split
from worker.learning.fitting.stopping import BestWeights, Plateau
from worker.learning.networks import Network
from worker.learning.pool import chunk_slices, epoch_minibatches, normalise

# Pixels of a minibatch: 32 images of 28 x 28 are just below, 32 of 32 x 32 reach it.
_WORTH_ALL_CORES = 2**15


@FITTINGS.register("supervised")
def fit_supervised(
    network: Network,
    data: TrainingSet,
    pick: Pick,
    generator: Generator,
    *,
    device: torch.device,
    deadline: float | None = None,
    on_epoch: Callable[[EpochReport], None] = lambda _report: None,
) -> FitReport:
    """Fit to labelled images as ``Fit`` describes; one class is enough, though it teaches nothing.

    References: Kingma and Ba 2015 (Adam); source A (early stopping and learning-rate reduction).
    """
    if not len(data):
        raise ValueError("there are no labelled images to fit to")
    started = time.monotonic()
    rows, validation_rows = stratified_split(data.labels_N.cpu(), pick.number("validation_share"), generator)
    training, validation = data.at(rows.to(device)), data.at(validation_rows.to(device))
    rate, decay = pick.number("learning_rate"), pick.number("weight_decay")
    optimizer = Adam(network.parameters(), rate, weight_decay=decay, fused=True)
    plateau = Plateau(pick.integer("patience"), pick.integer("reduce_after"))
    best, reports, steps = BestWeights(network), list[EpochReport](), 0
    stopped_by = None
    with global_seed(generator, device), cores_for(_step_pixels(data, pick), _WORTH_ALL_CORES):
        while stopped_by is None:
            rate = float(optimizer.param_groups[0]["lr"])
            loss, epoch_steps = _run_epoch(network, training, pick, optimizer, generator)
            steps += epoch_steps
            report = EpochReport(len(reports) + 1, loss, rate, *_validate(network, validation))
            if not math.isfinite(report.monitored):
                raise RecipeError("fitting.learning_rate", f"the loss was lost in epoch {report.epoch}", "use less")
            if plateau.see(report.monitored):
                best.keep()
            reports.append(report)
            on_epoch(report)
            stopped_by = _reason_to_stop(report.epoch, pick, plateau, deadline)
            plateau.slow_down(optimizer)
    best.restore()
    network.eval()
    counts, seconds = (len(rows), len(validation_rows)), time.monotonic() - started
    return FitReport(tuple(reports), plateau.best_epoch, steps, stopped_by, *counts, seconds)


def _step_pixels(data: TrainingSet, pick: Pick) -> int:
    return min(len(data), pick.integer("minibatch")) * data.images_NHWC.shape[1] ** 2


def _reason_to_stop(epoch: int, pick: Pick, plateau: Plateau, deadline: float | None) -> Stopped | None:
    if plateau.is_over:
        return Stopped.PATIENCE
    if epoch >= pick.integer("epochs"):
        return Stopped.EPOCHS
    return Stopped.DEADLINE if deadline is not None and time.monotonic() >= deadline else None


def _run_epoch(
    network: Network, data: TrainingSet, pick: Pick, optimizer: Adam, generator: Generator
) -> tuple[float, int]:
    """Take one pass of gradient steps; return their mean loss and their number."""
    network.train()
    device = data.labels_N.device
    augment = pick.switch("augment")
    minibatches = epoch_minibatches(len(data), pick.integer("minibatch"), pick.integer("least_steps"), generator)
    losses = torch.zeros(len(minibatches), device=device)
    for step, rows in enumerate(minibatches):
        part = data.at(rows.to(device))
        images_NCHW = normalise(part.images_NHWC)
        if augment:
            images_NCHW = jitter(images_NCHW, generator)
        with mixed_precision(device):
            logits_NC = network(images_NCHW)
        loss = _loss(logits_NC.float(), part)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
        optimizer.step()
        losses[step] = loss.detach()
    return float(losses.mean()), len(minibatches)


def _loss(logits_NC: Tensor, data: TrainingSet) -> Tensor:
    """Mean cross-entropy in nats; with weights, each image counts as much as its weight says."""
    if data.weights_N is None:
        return functional.cross_entropy(logits_NC, data.labels_N)
    losses_N = functional.cross_entropy(logits_NC, data.labels_N, reduction="none")
    return (losses_N * data.weights_N).mean()


def _validate(network: Network, data: TrainingSet) -> tuple[float | None, float | None]:
    """Mean loss and accuracy over images that are never trained on; None and None if there are none."""
    if not len(data):
        return None, None
    network.eval()
    device = data.labels_N.device
    loss, correct = torch.zeros((), device=device), torch.zeros((), device=device)
    for part in chunk_slices(len(data), 1024):
        labels_N = data.labels_N[part]
        with torch.inference_mode(), mixed_precision(device):
            logits_NC = network(normalise(data.images_NHWC[part])).float()
        loss += functional.cross_entropy(logits_NC, labels_N, reduction="sum")
        correct += (logits_NC.argmax(dim=1) == labels_N).sum()
    return float(loss) / len(data), float(correct) / len(data)
