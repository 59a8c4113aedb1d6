"""Many versions of a network's last linear layer, read with one matrix product, or what they say of single images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from app.errors import RecipeError
from worker.learning.errors import check_shape
from worker.learning.networks import Network
from worker.learning.reading import Reading


@dataclass(frozen=True)
class LastLayer:
    """A head in two parts: everything ``before`` (features to hidden units H) and the ``linear`` layer after it."""

    before: nn.Sequential
    linear: nn.Linear


@dataclass(frozen=True)
class LinearSamples:
    """S linear layers side by side: ``weights_HCS`` and ``biases_CS``, so that reading them all is one product.

    Samples come last because a softmax over the middle axis is vectorised over them: measured, it takes a twentieth of
    the time of one over a last axis of ten classes.
    """

    weights_HCS: Tensor
    biases_CS: Tensor

    @classmethod
    def of(cls, weights_SCH: Tensor, biases_SC: Tensor) -> LinearSamples:
        """Lay S layers of C x H weights side by side.

        Raises:
            ShapeError: biases of other samples or classes than the weights.
        """
        check_shape("weights_SCH", weights_SCH.shape, ("S", "C", "H"))
        check_shape("biases_SC", biases_SC.shape, tuple(weights_SCH.shape[:2]))
        return cls(weights_SCH.permute(2, 1, 0).contiguous(), biases_SC.T.contiguous())

    def log_probs(self, hidden_NH: Tensor) -> Tensor:
        """Return log_probs_SNC, float32, of hidden units."""
        width, classes, samples = self.weights_HCS.shape
        check_shape("hidden_NH", hidden_NH.shape, ("N", width))
        flat = torch.addmm(self.biases_CS.flatten(), hidden_NH, self.weights_HCS.view(width, -1))
        logits_NCS = flat.float().view(-1, classes, samples)
        return torch.log_softmax(logits_NCS, dim=1).permute(2, 0, 1)


@dataclass(frozen=True)
class SampledLastLayer:
    """A posterior of S last layers behind a trunk that is certain: drawn ones, or one under S dropout masks."""

    network: Network
    before: nn.Sequential
    heads: LinearSamples

    def read(self, images_NCHW: Tensor) -> Reading:
        """Return log_probs_SNC and features_ND, both float32; one pass through the trunk."""
        features_ND = self.network.trunk(images_NCHW)
        return Reading(self.heads.log_probs(self.before(features_ND)), features_ND.float())


@dataclass(frozen=True)
class NormalLogits:
    """A posterior of a last layer with normal, independent weights behind a trunk that is certain, image by image.

    An image's logits are then normal and independent themselves, with known means and variances, so S draws of C logits
    say the same about it as S draws of C x H weights, for the cost of one more layer. All images share ``draws_CS``,
    which are standard normal, so that their scores can be compared. What several images say together is not that of
    shared weights; that takes ``SampledLastLayer``.

    ``weight_variances_CH`` and ``bias_variances_C`` are those of the layer.

    References: Kingma, Salimans and Welling 2015 (local reparameterisation).
    """

    network: Network
    last: LastLayer
    weight_variances_CH: Tensor
    bias_variances_C: Tensor
    draws_CS: Tensor

    def logits(self, features_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Return means_NC and variances_NC of the logits, float32."""
        hidden_NH = self.last.before(features_ND)
        means_NC = self.last.linear(hidden_NH).float()
        variances_CH, variances_C = self.weight_variances_CH.float(), self.bias_variances_C.float()
        # In bfloat16, which a GPU reads with, sums of squares would keep two digits.
        with torch.autocast(hidden_NH.device.type, enabled=False):
            return means_NC, torch.addmm(variances_C, hidden_NH.float().square(), variances_CH.T)

    def read(self, images_NCHW: Tensor) -> Reading:
        """Return log_probs_SNC and features_ND, both float32; one pass through the trunk."""
        features_ND = self.network.trunk(images_NCHW)
        means_NC, variances_NC = self.logits(features_ND)
        logits_NCS = torch.addcmul(means_NC.unsqueeze(2), variances_NC.sqrt().unsqueeze(2), self.draws_CS)
        return Reading(torch.log_softmax(logits_NCS, dim=1).permute(2, 0, 1), features_ND.float())


def last_layer(network: Network) -> LastLayer | None:
    """Split a head before its last linear layer; None if it does not end in one."""
    layers = list(network.head) if isinstance(network.head, nn.Sequential) else [network.head]
    if not layers or not isinstance(layers[-1], nn.Linear):
        return None
    return LastLayer(nn.Sequential(*layers[:-1]).eval(), layers[-1])


def need_last_layer(network: Network) -> LastLayer:
    """Split a head before its last linear layer.

    Raises:
        RecipeError: it does not end in one.
    """
    found = last_layer(network)
    if found is None:
        reason = f"the head of {network.spec.name} does not end in a linear layer"
        raise RecipeError("posterior.weights", reason, "use all_weights, or another network")
    return found


def split_layer(numbers: Tensor, linear: nn.Linear) -> tuple[Tensor, Tensor]:
    """Split numbers that belong to the parameters of a linear layer, C x H weights row by row, then C biases.

    Args:
        numbers: [..., P].
        linear: the layer; P is the number of its parameters.
    Returns:
        [..., C, H] and [..., C], the latter zeros for a layer without biases.
    """
    size = linear.weight.numel()
    weights = numbers[..., :size].reshape(*numbers.shape[:-1], *linear.weight.shape)
    return weights, weights.new_zeros(weights.shape[:-1]) if linear.bias is None else numbers[..., size:]
