"""Dropout samples: the head read many times, each time with other hidden units silenced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.utils.hooks import RemovableHandle

from app.errors import RecipeError
from app.recipes import Value
from worker.learning.networks import Network
from worker.learning.posteriors.base import POSTERIORS, Fitted, PosteriorKind
from worker.learning.posteriors.heads import LinearSamples, SampledLastLayer
from worker.learning.reading import Reading

# nn.modules.dropout._DropoutNd is the common base; it is private, so the two kinds that heads use are named.
_DROPOUTS = (nn.Dropout, nn.Dropout2d)


@dataclass(frozen=True)
class MaskedDropout:
    """S masks on any dropout layers of a head, which is run S times; ``masks`` holds [S, ...] for each of them."""

    network: Network
    masks: Mapping[nn.Module, Tensor]

    def read(self, images_NCHW: Tensor) -> Reading:
        """Return log_probs_SNC and features_ND, both float32; one pass through the trunk, S through the head."""
        features_ND = self.network.trunk(images_NCHW)
        samples = len(next(iter(self.masks.values())))
        logits_SNC = torch.stack([self._head(features_ND, sample) for sample in range(samples)])
        return Reading(torch.log_softmax(logits_SNC.float(), dim=-1), features_ND.float())

    def _head(self, features_ND: Tensor, sample: int) -> Tensor:
        hooks = [
            layer.register_forward_hook(lambda _layer, _inputs, output, mask=masks[sample]: output * mask)
            for layer, masks in self.masks.items()
        ]
        try:
            logits_NC: Tensor = self.network.head(features_ND)
            return logits_NC
        finally:
            _remove(hooks)


def check_dropout(network: Network, _parameters: Mapping[str, Value]) -> None:
    """Raise RecipeError unless the head silences units.

    Dropout within the trunk stays off: sampling it would take S passes through the trunk, and features would differ
    from sample to sample.
    """
    if not _dropouts(network.head):
        reason = f"the head of {network.spec.name} silences no units, so all samples would be the same"
        raise RecipeError("posterior", reason, "use a network with dropout above 0, or laplace or committee")


def make_mc_dropout(fitted: Fitted) -> SampledLastLayer | MaskedDropout:
    """Draw S masks, each kept for every image that is ever read (consistent dropout), so images can be compared.

    A unit is silenced with the layer's probability p and otherwise scaled by 1 / (1 - p), as in fitting; batch-norm
    uses its running statistics.

    Raises:
        RecipeError: as ``check_dropout``.
    References: Gal and Ghahramani 2016; Kirsch et al. 2019, section 5 (consistent masks).
    """
    network, samples = fitted.network, int(fitted.parameters["samples"])
    sizes = _input_sizes(network)
    device = next(network.parameters()).device
    masks = {
        layer: _draw_masks(layer, samples, sizes[layer], fitted.generator).to(device)
        for layer in _dropouts(network.head)
    }
    layers = list(network.head) if isinstance(network.head, nn.Sequential) else []
    match layers:
        case [*before, nn.Dropout() as dropout, nn.Linear() as linear] if list(masks) == [dropout]:
            weights_CH = linear.weight.detach()
            biases_C = linear.bias.detach() if linear.bias is not None else weights_CH.new_zeros(len(weights_CH))
            heads = LinearSamples.of(weights_CH * masks[dropout].unsqueeze(1), biases_C.expand(samples, -1))
            return SampledLastLayer(network, nn.Sequential(*before).eval(), heads)
    return MaskedDropout(network, masks)


def _dropouts(head: nn.Module) -> list[nn.Module]:
    return [layer for layer in head.modules() if isinstance(layer, _DROPOUTS) and layer.p > 0]


def _draw_masks(layer: nn.Module, samples: int, size: torch.Size, generator: Generator) -> Tensor:
    keep = 1 - float(layer.p)  # type: ignore[arg-type]  # only layers with a probability come here
    # Dropout2d silences whole channels.
    drawn = size if isinstance(layer, nn.Dropout) else torch.Size([size[0], *(1 for _ in size[1:])])
    kept = torch.rand(samples, *drawn, generator=generator) < keep
    return kept.float() / keep


def _input_sizes(network: Network) -> dict[nn.Module, torch.Size]:
    """Sizes, without the image axis, of what each dropout layer of the head is given."""
    sizes: dict[nn.Module, torch.Size] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sizes[layer] = inputs[0].shape[1:]

    hooks = [layer.register_forward_pre_hook(note) for layer in _dropouts(network.head)]
    try:
        with torch.inference_mode():
            network(network.blank())
    finally:
        _remove(hooks)
    return sizes


def _remove(hooks: list[RemovableHandle]) -> None:
    for hook in hooks:
        hook.remove()


POSTERIORS.add("mc_dropout", PosteriorKind(make_mc_dropout, check_dropout))
