"""How often two agree: a share with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Agreement:
    """``right`` of ``count``; the bounds are a 95% Wilson interval (Wilson 1927). All shares are None for none."""

    right: int
    count: int

    @property
    def share(self) -> float | None:
        """The share of those that agree."""
        return self.right / self.count if self.count else None

    @property
    def low(self) -> float | None:
        """The lower bound, within [0, 1]."""
        return None if not self.count else 0.0 if not self.right else self._bound(-1)

    @property
    def high(self) -> float | None:
        """The upper bound, within [0, 1]."""
        return None if not self.count else 1.0 if self.right == self.count else self._bound(1)

    def _bound(self, side: int) -> float:
        share, count = self.right / self.count, self.count
        half = Z95 * math.sqrt(share * (1 - share) / count + Z95**2 / (4 * count**2))
        return (share + Z95**2 / (2 * count) + side * half) / (1 + Z95**2 / count)
