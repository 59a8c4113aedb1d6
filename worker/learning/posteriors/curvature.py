"""How sharply the labelled images pin weights down: generalised Gauss-Newton diagonals and the prior beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor
from torch.func import functional_call, jacrev, vmap

from worker.learning.errors import NotFiniteError, ShapeError, check_shape
from worker.learning.fitting.base import TrainingSet
from worker.learning.networks import Network
from worker.learning.pool import chunk_slices, normalise
from worker.learning.posteriors.heads import LastLayer

# Beyond these a prior fixes every weight at 0 or leaves it free, whatever the data.
LEAST_PRECISION, MOST_PRECISION = 1e-6, 1e6
# Measured: more together is no faster.
_SLOPES = 2**24
_CHUNK_PIXELS = 2**18


def linear_curvature(hidden_NH: Tensor, curvature_NC: Tensor) -> tuple[Tensor, Tensor]:
    """Diagonal curvature of a linear layer, summed over N images.

    Args:
        hidden_NH: what the layer is given.
        curvature_NC: second derivative of an image's loss by each output: p (1 - p) for cross-entropy, 1 / variance for
            Gaussian noise.
    Returns:
        weights_CH and biases_C, float64, not negative.
    Raises:
        ShapeError: another number of images.
    References: Schraudolph 2002 (generalised Gauss-Newton); Daxberger et al. 2021, section 3.1.
    """
    check_shape("hidden_NH", hidden_NH.shape, (curvature_NC.shape[0], "H"))
    return (curvature_NC.T @ hidden_NH.square()).double(), curvature_NC.sum(dim=0).double()


def last_layer_curvature(network: Network, last: LastLayer, training: TrainingSet) -> Tensor:
    """Diagonal of the summed generalised Gauss-Newton of cross-entropy by the last layer.

    Returns:
        curvature_P, float64: of the weights C x H row by row, then of the biases if there are any.
    """
    weights_CH = torch.zeros_like(last.linear.weight, dtype=torch.float64)
    biases_C = weights_CH.new_zeros(len(weights_CH))
    side = training.images_NHWC.shape[1]
    with torch.inference_mode():
        for images_NCHW, counts_N in _minibatches(training, max(16, _CHUNK_PIXELS // side**2)):
            hidden_NH = last.before(network.trunk(images_NCHW)).float()
            probs_NC = torch.softmax(last.linear(hidden_NH), dim=-1)
            sums = linear_curvature(hidden_NH, probs_NC * (1 - probs_NC) * counts_N.unsqueeze(1))
            weights_CH += sums[0]
            biases_C += sums[1]
    parts = [weights_CH.flatten()] + ([] if last.linear.bias is None else [biases_C])
    return torch.cat(parts).clone()


def all_weights_curvature(network: Network, training: TrainingSet) -> Tensor:
    """Diagonal of the summed generalised Gauss-Newton of cross-entropy by every parameter.

    With J the slopes of an image's logits and p its probabilities, its diagonal is sum_c p_c (J_c - sum_k p_k J_k)^2.

    Returns:
        curvature_P, float64, in the order of ``network.parameters()``.
    """
    total_P = torch.zeros((), dtype=torch.float64, device=training.images_NHWC.device)
    for images_NCHW, counts_N in _minibatches(training, slopes_chunk(network)):
        logits_NC, slopes_NCP = weight_slopes(network, images_NCHW)
        probs_NC = torch.softmax(logits_NC, dim=-1)
        centred_NCP = slopes_NCP - torch.einsum("nc,ncp->np", probs_NC, slopes_NCP).unsqueeze(1)
        weights_NC = probs_NC * counts_N.unsqueeze(1)
        total_P = total_P + torch.einsum("nc,ncp->p", weights_NC, centred_NCP.square_()).double()
    return total_P


def weight_slopes(network: Network, images_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and their slopes by every parameter.

    Returns:
        logits_NC, and slopes_NCP with parameters in the order of ``network.parameters()``.
    """
    parameters = {name: value.detach() for name, value in network.named_parameters()}

    def logits_twice(weights: Mapping[str, Tensor], image_CHW: Tensor) -> tuple[Tensor, Tensor]:
        logits_C = functional_call(network, dict(weights), (image_CHW.unsqueeze(0),))[0]
        return logits_C, logits_C

    # Slopes cannot be taken of tensors that were made for inference only.
    with torch.inference_mode(mode=False), torch.no_grad():
        slopes, logits_NC = vmap(jacrev(logits_twice, has_aux=True), in_dims=(None, 0))(parameters, images_NCHW.clone())
        return logits_NC, torch.cat([slope.flatten(2) for slope in slopes.values()], dim=2)


def slopes_chunk(network: Network) -> int:
    """Return how many images' slopes stand in memory together: 64 MiB of float32, or those of one image."""
    return max(1, _SLOPES // (network.spec.class_count * parameter_count(network)))


def parameter_count(network: Network) -> int:
    """Return P, the number of weights of a network."""
    return sum(value.numel() for value in network.parameters())


def best_precision(curvature_P: Tensor, weights_P: Tensor) -> float:
    """Prior precision that makes the labels likeliest under Laplace's approximation, for fixed weights.

    The slope of the log marginal likelihood by the logarithm of the precision d is half of
    sum_i h_i / (h_i + d) - d |w|^2. It falls as d grows, so its only zero is found by bisection.

    Args:
        curvature_P: h, not negative.
        weights_P: w, the fitted weights.
    Returns:
        a precision in [1e-6, 1e6].
    Raises:
        ShapeError: other weights than curvatures.
        NotFiniteError: a curvature or weight that is NaN or infinite, or a curvature below 0.
    References: MacKay 1992, equation 4.9 (number of well-determined parameters).
    """
    if curvature_P.shape != weights_P.shape:
        raise ShapeError("curvature_P", weights_P.shape, curvature_P.shape)
    curvature_P, squared = curvature_P.double(), float(weights_P.double().square().sum())
    if not (math.isfinite(squared) and bool(torch.isfinite(curvature_P).all()) and bool((curvature_P >= 0).all())):
        raise NotFiniteError("curvature_P: a curvature or a weight is NaN, infinite or below 0")
    low, high = math.log(LEAST_PRECISION), math.log(MOST_PRECISION)
    for _ in range(50):
        middle = (low + high) / 2
        precision = math.exp(middle)
        determined = float((curvature_P / (curvature_P + precision)).sum())
        low, high = (middle, high) if determined > precision * squared else (low, middle)
    return math.exp((low + high) / 2)


def least_loss(loss: Callable[[float], float], start: float) -> float:
    """Walk from a precision up, then down, by factors of two as long as a held-out loss falls.

    Args:
        loss: of a precision; one that does not rise and fall more than once has its minimum found, to a factor of two.
        start: the first precision, for example ``best_precision``.
    Returns:
        a precision between 1e-6 and 1e6, or ``start``.
    """
    best, least = start, loss(start)
    for factor in (2.0, 0.5):
        while LEAST_PRECISION <= best * factor <= MOST_PRECISION:
            found = loss(best * factor)
            if not found < least:
                break
            best, least = best * factor, found
    return best


def _minibatches(training: TrainingSet, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images in [0, 1], and how often each of them counts."""
    for part in chunk_slices(len(training), size):
        images_NCHW = normalise(training.images_NHWC[part])
        counts_N = images_NCHW.new_ones(len(images_NCHW)) if training.weights_N is None else training.weights_N[part]
        yield images_NCHW, counts_N
