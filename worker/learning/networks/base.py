"""What every network is: a trunk and a head, built reproducibly from a specification."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn

from app.errors import BadInput, RecipeError
from app.recipes import Value
from worker.learning.devices import global_seed
from worker.learning.errors import check_shape
from worker.learning.registry import Registry


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that decides a network's layers: enough to rebuild it around stored weights."""

    name: str
    class_count: int
    channels: int
    side: int
    parameters: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.class_count < 2:
            raise BadInput("classes", f"there is nothing to tell apart with {self.class_count}", "use two or more")
        if self.channels not in {1, 3}:
            raise BadInput("images", f"{self.channels} channels are neither grey nor colour", "use 1 or 3")

    def __deepcopy__(self, _memo: object) -> NetworkSpec:
        return self  # frozen, and read-only parameters cannot be copied

    @property
    def is_pretrained(self) -> bool:
        """Return whether the network begins from weights published for ImageNet."""
        return self.parameters.get("weights") == "imagenet"

    def need_side(self, least: int, most: int | None = None) -> None:
        """Raise RecipeError if images have fewer than ``least`` pixels a side, or more than ``most``."""
        if self.side < least:
            raise RecipeError("image_side", f"{self.side} pixels are too few for {self.name}", f"use {least} or more")
        if most is not None and self.side > most:
            raise RecipeError("image_side", f"{self.side} pixels are too many for {self.name}", f"use {most} or fewer")


class Network(nn.Module):
    """A classifier in two parts, so that whatever varies only in the head costs one pass through the trunk."""

    def __init__(self, spec: NetworkSpec, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.spec = spec
        self.trunk = trunk
        self.head = head

    def blank(self) -> Tensor:
        """Return one black image, 1 x channels x side x side, as this network takes images."""
        device = next(self.parameters()).device
        return torch.zeros(1, self.spec.channels, self.spec.side, self.spec.side, device=device)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return logits_NC of float images in [0, 1].

        Raises:
            ShapeError: other channels or another side than the network was built for.
        """
        spec = self.spec
        check_shape("images_NCHW", images_NCHW.shape, ("N", spec.channels, spec.side, spec.side))
        logits_NC: Tensor = self.head(self.trunk(images_NCHW))
        return logits_NC


NETWORKS: Registry[Callable[[NetworkSpec], Network]] = Registry("network")


def build_network(spec: NetworkSpec, generator: Generator) -> Network:
    """Build a network whose first weights depend on ``generator`` alone, on the CPU in channels-last order.

    Published weights are not loaded here (``weights.begin`` does), so stored networks are rebuilt without a network.

    Raises:
        RecipeError: no such network, or images too small for it.
        BadInput: fewer than two classes, or channels other than 1 or 3.
    """
    with global_seed(generator, torch.device("cpu")):
        network = NETWORKS.get(spec.name)(spec)
    # torch's stubs leave the memory format out of the overloads of Module.to.
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
