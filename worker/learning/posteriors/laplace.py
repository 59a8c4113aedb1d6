"""Laplace: the fitted weights as the mean of a normal distribution, as narrow as the labelled images make it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import parameters_to_vector

from app.errors import RecipeError
from app.recipes import Value
from worker.learning.devices import cores_for
from worker.learning.fitting.base import TrainingSet
from worker.learning.networks import Network
from worker.learning.pool import chunk_slices, normalise
from worker.learning.posteriors.base import POSTERIORS, Fitted, Posterior, PosteriorKind
from worker.learning.posteriors.curvature import (
    all_weights_curvature,
    best_precision,
    last_layer_curvature,
    least_loss,
    parameter_count,
)
from worker.learning.posteriors.heads import (
    LinearSamples,
    NormalLogits,
    SampledLastLayer,
    need_last_layer,
    split_layer,
)
from worker.learning.posteriors.weight_samples import LinearisedWeights, SampledWeights

# Samples of all weights are kept, and so are the slopes of one image: 1 GiB of float32.
_MOST_NUMBERS = 2**28
_CHUNK_PIXELS = 2**16
_WORTH_ALL_CORES = 2**21

_Reader = Callable[[Tensor], Posterior]
"""Makes a posterior out of the variances of the uncertain weights, with the same draws each time."""


@dataclass(frozen=True)
class WeightsPosterior:
    """A normal distribution over weights with a diagonal covariance: ``means_P``, ``curvature_P`` and the prior."""

    means_P: Tensor
    curvature_P: Tensor
    prior_precision: float

    @property
    def variances_P(self) -> Tensor:  # noqa: N802 - the axis is part of the name
        """Return 1 / (curvature + prior precision)."""
        return 1 / (self.curvature_P + self.prior_precision)


def measure_last_layer(fitted: Fitted) -> WeightsPosterior:
    """Return the posterior of the last layer's weights (C x H row by row), then its biases.

    Raises:
        RecipeError: the head does not end in a linear layer.
        ValueError: no labelled images.
    References: MacKay 1992; Kristiadi et al. 2020 (last layer); Daxberger et al. 2021.
    """
    last, training = need_last_layer(fitted.network), _training(fitted)
    with cores_for(training.images_NHWC[..., 0].numel(), _WORTH_ALL_CORES):
        curvature_P = last_layer_curvature(fitted.network, last, training)
    return _posterior(fitted, parameters_to_vector(last.linear.parameters()).detach(), curvature_P)


def measure_all_weights(fitted: Fitted) -> WeightsPosterior:
    """Return the posterior of all parameters, in the order of ``network.parameters()``.

    Raises:
        ValueError: no labelled images.
    References: Ritter et al. 2018; Immer et al. 2021.
    """
    training, network = _training(fitted), fitted.network
    with cores_for(training.images_NHWC[..., 0].numel(), _WORTH_ALL_CORES):
        curvature_P = all_weights_curvature(network, training)
    means_P = torch.cat([value.detach().flatten() for value in network.parameters()])
    return _posterior(fitted, means_P, curvature_P)


def check_laplace(network: Network, parameters: Mapping[str, Value]) -> None:
    """Raise RecipeError for a head without a last linear layer, or samples that would not fit into memory."""
    if parameters["weights"] == "last_layer":
        need_last_layer(network)
        return
    size, samples = parameter_count(network), int(parameters["samples"])
    if size * max(samples, network.spec.class_count) > _MOST_NUMBERS:
        reason = f"{samples} samples of the {size:,} weights of {network.spec.name} do not fit into memory"
        raise RecipeError("posterior.weights", reason, "use last_layer, or fewer samples")


def make_laplace(fitted: Fitted) -> Posterior:
    """Draw S samples of what the uncertain weights say; every image is read by the same draws.

    The curvature is the diagonal generalised Gauss-Newton summed over all labelled images, those kept aside included. A
    diagonal forgets that weights make up for each other, so the prior of the largest marginal likelihood leaves the
    predictions far too wide; the loss on labels kept aside says how much narrower they should be.

    The last layer's samples are of the logits, whose distribution is known, unless images are read together.

    Raises:
        RecipeError: as ``check_laplace``.
        ValueError: no labelled images.
    """
    is_last = fitted.parameters["weights"] == "last_layer"
    measured = measure_last_layer(fitted) if is_last else measure_all_weights(fitted)
    read_with = _last_layer_reader(fitted) if is_last else _all_weights_reader(fitted, len(measured.means_P))
    held_out = fitted.validation

    def at(prior_precision: float) -> Posterior:
        return read_with(replace(measured, prior_precision=prior_precision).variances_P)

    if fitted.parameters["prior"] != "validation" or held_out is None or not len(held_out):
        return at(measured.prior_precision)
    return at(least_loss(lambda precision: _loss(at(precision), held_out), measured.prior_precision))


def _last_layer_reader(fitted: Fitted) -> _Reader:
    network, last = fitted.network, need_last_layer(fitted.network)
    if not fitted.is_joint:
        draws_CS = _draw(fitted, last.linear.out_features, int(fitted.parameters["samples"]))
        return lambda variances_P: NormalLogits(network, last, *split_layer(variances_P, last.linear), draws_CS)
    means_P = parameters_to_vector(last.linear.parameters()).detach()
    draws_SP = _draw(fitted, int(fitted.parameters["samples"]), len(means_P))

    def read_with(variances_P: Tensor) -> Posterior:
        drawn_SP = means_P + draws_SP * variances_P.sqrt().float()
        return SampledLastLayer(network, last.before, LinearSamples.of(*split_layer(drawn_SP, last.linear)))

    return read_with


def _all_weights_reader(fitted: Fitted, size: int) -> _Reader:
    kind = LinearisedWeights if fitted.parameters["predictive"] == "linearised" else SampledWeights
    draws_SP = _draw(fitted, int(fitted.parameters["samples"]), size)
    return lambda variances_P: kind(fitted.network, draws_SP * variances_P.sqrt().float())


def _draw(fitted: Fitted, rows: int, columns: int) -> Tensor:
    device = next(fitted.network.parameters()).device
    return torch.randn(rows, columns, generator=fitted.generator).to(device)


def _loss(posterior: Posterior, held_out: TrainingSet) -> float:
    """Mean negative log-likelihood of the mean prediction, in nats."""
    total = 0.0
    for part in chunk_slices(len(held_out), max(16, _CHUNK_PIXELS // held_out.images_NHWC.shape[1] ** 2)):
        with torch.inference_mode():
            log_probs_SNC = posterior.read(normalise(held_out.images_NHWC[part])).log_probs_SNC
            log_probs_NC = log_probs_SNC.logsumexp(dim=0) - math.log(len(log_probs_SNC))
            total += float(functional.nll_loss(log_probs_NC, held_out.labels_N[part], reduction="sum"))
    return total / len(held_out)


def _training(fitted: Fitted) -> TrainingSet:
    if fitted.training is None or not len(fitted.training):
        raise ValueError("laplace measures the labelled images, and there are none")
    return fitted.training


def _posterior(fitted: Fitted, means_P: Tensor, curvature_P: Tensor) -> WeightsPosterior:
    is_given = fitted.parameters["prior"] == "given"
    precision = float(fitted.parameters["prior_precision"]) if is_given else best_precision(curvature_P, means_P)
    return WeightsPosterior(means_P, curvature_P, precision)


POSTERIORS.add("laplace", PosteriorKind(make_laplace, check_laplace))
