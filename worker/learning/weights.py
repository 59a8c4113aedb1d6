"""Weights as bytes: a file that says which network it belongs to, and the network rebuilt from it."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from app.errors import BadInput
from worker.learning.fitting.base import Start
from worker.learning.networks import Network, NetworkSpec, build_network
from worker.learning.networks.borrowed import load_published


@dataclass(frozen=True)
class Weights:
    """The values of a network's parameters and buffers, on the CPU, with the specification they fit.

    ``others`` are those of the further members of a committee, which share the specification.
    """

    spec: NetworkSpec
    state: dict[str, Tensor]
    others: tuple[dict[str, Tensor], ...] = ()

    @classmethod
    def of(cls, network: Network, *others: Network) -> Weights:
        """Copy the weights of networks, in plain memory order so that equal weights give equal bytes."""
        return cls(network.spec, _copy_state(network), tuple(_copy_state(other) for other in others))

    @property
    def members(self) -> tuple[dict[str, Tensor], ...]:
        """Return the values of every member, one unless there was a committee."""
        return (self.state, *self.others)

    @classmethod
    def from_bytes(cls, data: bytes) -> Weights:
        """Read what ``to_bytes`` wrote; no code in the file is run.

        Raises:
            BadInput: not such a file.
        """
        try:
            file: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            return cls(NetworkSpec(**file["spec"]), file["state"], tuple(file.get("others", ())))
        except (pickle.UnpicklingError, LookupError, RuntimeError, TypeError, EOFError, ValueError) as error:
            # torch reads a file without its signature as an old pickle, which ends in any of these.
            raise _foreign_file("it holds no weights of ours") from error

    def to_bytes(self) -> bytes:
        """Write the weights as one self-describing file; the same weights give the same bytes."""
        buffer = io.BytesIO()
        spec = {**vars(self.spec), "parameters": dict(self.spec.parameters)}
        others = {"others": list(self.others)} if self.others else {}
        torch.save({"spec": spec, "state": self.state, **others}, buffer)
        return buffer.getvalue()


def load_network(data: bytes, device: torch.device | str = "cpu") -> Network:
    """Rebuild a fitted network, the first of a committee, from its bytes; as ``load_networks``."""
    return load_networks(data, device)[0]


def load_networks(data: bytes, device: torch.device | str = "cpu") -> tuple[Network, ...]:
    """Rebuild all fitted networks from their bytes, ready to predict (evaluation mode, channels-last).

    Raises:
        BadInput: not a model file, or one whose weights do not fit the network that it names.
    """
    weights = Weights.from_bytes(data)
    networks = []
    for state in weights.members:
        network = build_network(weights.spec, Generator())
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise _foreign_file(f"its weights do not fit {weights.spec.name}") from error
        networks.append(network.to(device).eval())
    return tuple(networks)


def begin(spec: NetworkSpec, parent: bytes | None, generator: Generator, member: int = 0) -> tuple[Network, Start]:
    """Build the network that a fit begins with.

    Args:
        spec: the network that is wanted.
        parent: weights of the previous round to go on from, or None for new ones.
        generator: source of new weights.
        member: which network of a committee.
    Returns:
        the network on the CPU, and whose weights it has. A parent of another family, channels, side, kind of first
        weights or normalisation, or without this member, gives new weights (or the published ones, if the specification
        says so); one with other classes, or more or fewer features, gives its trunk.
    Raises:
        BadInput: the parent is not a model file.
        RecipeError: published weights cannot be fetched.
    """
    network = build_network(spec, generator)
    weights = None if parent is None else Weights.from_bytes(parent)
    if weights is not None and _kin(weights.spec) == _kin(spec) and member < len(weights.members):
        state = weights.members[member]
        if _shapes(state) == _shapes(network.state_dict()):
            network.load_state_dict(state)
            return network, Start.WARM
        shared = {name: value for name, value in state.items() if name.startswith("trunk.")}
        if shared:
            network.load_state_dict(shared, strict=False)
            return network, Start.TRUNK
    if spec.is_pretrained:
        load_published(network)
        return network, Start.PRETRAINED
    return network, Start.SCRATCH


def _kin(spec: NetworkSpec) -> tuple[str, int, int, bool, bool]:
    """Return what two networks have to share for one to take the other's trunk."""
    is_normalised = bool(spec.parameters.get("batch_norm", True))
    return spec.name, spec.channels, spec.side, spec.is_pretrained, is_normalised


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


def _copy_state(network: Network) -> dict[str, Tensor]:
    return {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }


def _foreign_file(reason: str) -> BadInput:
    return BadInput("model file", reason, "use a model that a round wrote")
