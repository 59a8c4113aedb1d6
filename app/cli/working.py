"""A worker for commands that need one: the product's if it runs, else one for the command's own time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from app.children import Child, children_of, environment_of
from app.errors import Unavailable
from app.events import Bus
from app.settings import Settings

LOOK_SECONDS = 1.0


class WorkerAtHand:
    """Sees to it that a worker is there while a command waits for one; ``own`` is the one that was started here."""

    def __init__(self, settings: Settings, bus: Bus) -> None:
        self._settings = settings
        self._bus = bus
        self.own: Child | None = None
        self._looked_at = -LOOK_SECONDS

    def look(self) -> None:
        """Start a worker when none is seen; call this again and again while waiting, from the main thread.

        A worker that was killed is seen for some seconds more, so one look at the beginning is not enough.

        Raises:
            Unavailable: the worker that was started has ended.
        """
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        if self.own is None and not self._bus.workers():
            ours = next(child for child in children_of(self._settings) if child.name == "worker")
            self.own = replace(ours, name="worker-of-command")
            self.own.start(environment_of(self._settings))
        elif self.own is not None and self.own.process is not None and self.own.process.poll() is not None:
            raise Unavailable("worker", f"it ended: {self.own.last_line()}", f"see {self.own.log_path}")

    def stop(self) -> None:
        """Stop the worker if it was started here; what it leaves undone is taken up by the next one."""
        if self.own is not None:
            self.own.stop()


@contextmanager
def worker_at_hand(settings: Settings, bus: Bus) -> Iterator[WorkerAtHand]:
    """Start a worker unless one is seen, and stop it at the end.

    Args:
        settings: with the URLs of running servers.
    Yields:
        what to call ``look`` on while waiting.
    """
    worker = WorkerAtHand(settings, bus)
    try:
        worker.look()
        yield worker
    finally:
        worker.stop()
