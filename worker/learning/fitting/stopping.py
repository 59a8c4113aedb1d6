"""When a fit has stopped getting better: keeps the best weights, slows down, gives up."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer

_LEAST_LEARNING_RATE = 1e-6


@dataclass
class Plateau:
    """Follows one loss over epochs.

    After ``reduce_after`` epochs without a new best, and again after as many more, the learning rate is halved (not
    below 1e-6); after ``patience`` epochs without one, fitting should stop.

    References: source A (patience, halved learning rate, floor 1e-6).
    """

    patience: int
    reduce_after: int
    best_epoch: int = 0
    best_loss: float = float("inf")
    stale: int = 0
    epoch: int = 0

    def see(self, loss: float) -> bool:
        """Take in the loss of the next epoch; return whether it is the best so far."""
        self.epoch += 1
        if loss < self.best_loss:
            self.best_loss, self.best_epoch, self.stale = loss, self.epoch, 0
            return True
        self.stale += 1
        return False

    @property
    def is_over(self) -> bool:
        """Return whether patience has run out."""
        return self.stale >= self.patience

    def slow_down(self, optimizer: Optimizer) -> None:
        """Halve the learning rate if it is time to."""
        if self.stale and self.stale % self.reduce_after == 0:
            for group in optimizer.param_groups:
                group["lr"] = max(group["lr"] / 2, min(group["lr"], _LEAST_LEARNING_RATE))


class BestWeights:
    """A copy of a module's parameters and buffers, kept in place of allocating one an epoch."""

    def __init__(self, module: nn.Module) -> None:
        self._live: list[Tensor] = [value.detach() for value in module.state_dict().values()]
        self._kept = [value.clone() for value in self._live]

    def keep(self) -> None:
        """Remember the weights as they are now."""
        for kept, live in zip(self._kept, self._live, strict=True):
            kept.copy_(live)

    def restore(self) -> None:
        """Put the remembered weights back."""
        for kept, live in zip(self._kept, self._live, strict=True):
            live.copy_(kept)
