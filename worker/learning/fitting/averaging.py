"""A network beside the one that learns, whose weights are the moving average of its weights."""

from __future__ import annotations

import copy

import torch

from worker.learning.networks import Network


class Averaged:
    """The moving average of a network's weights and buffers, as a network.

    ``network`` is to be read and measured, never trained; with a share of 0 it is the live one itself.
    """

    def __init__(self, live: Network, share: float) -> None:
        """Begin with the weights as they are.

        Args:
            live: the network that learns.
            share: of the averaged weights kept at a step, in [0, 1).
        """
        self._live, self._share, self._steps = live, share, 0
        self.network = copy.deepcopy(live) if share else live

    def move(self) -> None:
        """Move towards the live weights; at first faster, so that the average forgets where it began.

        Call it after every gradient step.

        References: Tarvainen and Valpola 2017.
        """
        self._steps += 1
        if not self._share:
            return
        kept = min(self._share, (1 + self._steps) / (10 + self._steps))
        live = self._live.state_dict()
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.is_floating_point():
                    value.lerp_(live[name], 1 - kept)
                else:
                    value.copy_(live[name])

    def settle(self) -> None:
        """Give the live network the averaged weights."""
        if self._share:
            self._live.load_state_dict(self.network.state_dict())
