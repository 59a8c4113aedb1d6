"""How long each stage of a round takes."""

from __future__ import annotations

import time


class Stopwatch:
    """Seconds since it was last looked at."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def lap(self) -> float:
        """Return the seconds since the last lap, or since the start."""
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        return seconds
