"""Tells endless responses that the server is stopping.

Uvicorn waits for open responses before it runs the shutdown of the lifespan, so a stream that waited for that would
hold it up for ever. The signal handlers that uvicorn has installed are therefore called through ours.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Closing:
    """A flag that is raised once, at the first signal to stop or when the application shuts down."""

    def __init__(self) -> None:
        self._event: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Listen for signals inside the block, which runs in the event loop's thread."""
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        before: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: handler for number in SIGNALS if callable(handler := signal.getsignal(number))}
            for number, handler in before.items():
                signal.signal(number, self._through(handler))
        try:
            yield
        finally:
            self._event.set()
            for number, handler in before.items():
                signal.signal(number, handler)

    async def wait(self) -> None:
        """Return when the server is stopping."""
        if self._event is None:
            await asyncio.Event().wait()
        else:
            await self._event.wait()

    def _through(self, handler: Any) -> Any:
        def handle(number: int, frame: FrameType | None) -> None:
            if self._loop is not None and self._event is not None:
                self._loop.call_soon_threadsafe(self._event.set)
            handler(number, frame)

        return handle
