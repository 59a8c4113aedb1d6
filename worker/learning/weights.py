"""Weights as bytes: a file that says which network it belongs to, and the network rebuilt from it."""

from __future__ import annotations

import io
import pickle
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
    """The values of a network's parameters and buffers, on the CPU, with the specification they fit."""

    spec: NetworkSpec
    state: dict[str, Tensor]

    @classmethod
    def of(cls, network: Network) -> Weights:
        """Copy a network's weights, in plain memory order so that equal weights give equal bytes."""
        state = {
            name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, value in network.state_dict().items()
        }
        return cls(network.spec, state)

    @classmethod
    def from_bytes(cls, data: bytes) -> Weights:
        """Read what ``to_bytes`` wrote; no code in the file is run.

        Raises:
            BadInput: not such a file.
        """
        try:
            file: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            return cls(NetworkSpec(**file["spec"]), file["state"])
        except (pickle.UnpicklingError, LookupError, RuntimeError, TypeError, EOFError, ValueError) as error:
            # torch reads a file without its signature as an old pickle, which ends in any of these.
            raise _foreign_file("it holds no weights of ours") from error

    def to_bytes(self) -> bytes:
        """Write the weights as one self-describing file; the same weights give the same bytes."""
        buffer = io.BytesIO()
        spec = {**vars(self.spec), "parameters": dict(self.spec.parameters)}
        torch.save({"spec": spec, "state": self.state}, buffer)
        return buffer.getvalue()


def load_network(data: bytes, device: torch.device | str = "cpu") -> Network:
    """Rebuild a fitted network from its bytes, ready to predict (evaluation mode, channels-last).

    Raises:
        BadInput: not a model file, or one whose weights do not fit the network that it names.
    """
    weights = Weights.from_bytes(data)
    network = build_network(weights.spec, Generator())
    try:
        network.load_state_dict(weights.state)
    except RuntimeError as error:
        raise _foreign_file(f"its weights do not fit {weights.spec.name}") from error
    return network.to(device).eval()


def begin(spec: NetworkSpec, parent: bytes | None, generator: Generator) -> tuple[Network, Start]:
    """Build the network that a fit begins with.

    Args:
        spec: the network that is wanted.
        parent: weights of the previous round to go on from, or None for new ones.
        generator: source of new weights.
    Returns:
        the network on the CPU, and whose weights it has. A parent of another family, channels, side or kind of first
        weights gives new weights (or the published ones, if the specification says so); one with other classes gives
        its trunk.
    Raises:
        BadInput: the parent is not a model file.
        RecipeError: published weights cannot be fetched.
    """
    network = build_network(spec, generator)
    weights = None if parent is None else Weights.from_bytes(parent)
    if weights is not None and _kin(weights.spec) == _kin(spec):
        if weights.spec.class_count == spec.class_count:
            network.load_state_dict(weights.state)
            return network, Start.WARM
        shared = {name: value for name, value in weights.state.items() if name.startswith("trunk.")}
        if shared:
            network.load_state_dict(shared, strict=False)
            return network, Start.TRUNK
    if spec.is_pretrained:
        load_published(network)
        return network, Start.PRETRAINED
    return network, Start.SCRATCH


def _kin(spec: NetworkSpec) -> tuple[str, int, int, bool]:
    """Return what two networks have to share for one to take the other's trunk."""
    return spec.name, spec.channels, spec.side, spec.is_pretrained


def _foreign_file(reason: str) -> BadInput:
    return BadInput("model file", reason, "use a model that a round wrote")
