"""One line to Redis for each project that people have open, however many pages hear it.

Fifty people who label make fifty events a second, and each of their pages would be told of each: two and a half
thousand messages a second. So events that only say how far something is are told at most every ``PAUSE_SECONDS``, the
latest instead of all; what happens is told at once and in order.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from app.outbox import EventKind

PAUSE_SECONDS = 0.5
LATEST_ONLY = frozenset({EventKind.LABELS.value, EventKind.PROGRESS.value})
MOST_WAITING = 1000  # of a page that does not read; the oldest are dropped

Listen = Callable[[int], AsyncGenerator[str]]


@dataclass
class _Line:
    """What one project's pages share.

    ``held`` are events by kind that wait for the end of the pause; ``listening`` is what says that nothing is missed
    any more, once it was said.
    """

    pages: set[asyncio.Queue[str | None]] = field(default_factory=set)
    held: dict[str, str] = field(default_factory=dict)
    listening: str | None = None
    reader: asyncio.Task[None] | None = None
    pause: asyncio.TimerHandle | None = None

    def hear(self, text: str) -> None:
        """Tell an event now, or at the end of the pause if it only says how far something is."""
        kind = json.loads(text)["kind"] if text else ""
        if kind == EventKind.LISTENING:
            self.listening = text
        if kind not in LATEST_ONLY:
            self._tell_held()
            self._tell(text)
            return
        self.held[kind] = text
        if self.pause is None:
            self._tell_held()
            self.pause = asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._end_pause)

    def end(self) -> None:
        """Let the pages go, so that they come again."""
        self.listening = None
        self._tell(None)

    def close(self) -> None:
        """Stop hearing."""
        for waiting in (self.reader, self.pause):
            if waiting is not None:
                waiting.cancel()

    def _end_pause(self) -> None:
        self.pause = None
        if self.held:
            self._tell_held()
            self.pause = asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._end_pause)

    def _tell_held(self) -> None:
        held, self.held = self.held, {}
        for text in held.values():
            self._tell(text)

    def _tell(self, text: str | None) -> None:
        for page in self.pages:
            if page.full():
                page.get_nowait()
            page.put_nowait(text)


class FanOut:
    """Tells each page of a project what is heard about it.

    Args:
        listen: yields a project's events as JSON, and "" now and then, for ever (``app.events.Bus.listen``).
    """

    def __init__(self, listen: Listen) -> None:
        self._listen = listen
        self._lines: dict[int, _Line] = {}

    async def listen(self, project_id: int) -> AsyncIterator[str]:
        """Yield a project's events as JSON, and "" now and then; end only if they can be heard no more.

        What happens before an event of the kind ``listening`` may be missed; who joins later is told it at once.
        """
        line = self._lines.setdefault(project_id, _Line())
        page = asyncio.Queue[str | None](MOST_WAITING)
        if line.listening is not None:
            page.put_nowait(line.listening)
        line.pages.add(page)
        if line.reader is None or line.reader.done():
            line.reader = asyncio.create_task(self._read(project_id, line))
        try:
            while (text := await page.get()) is not None:
                yield text
        finally:
            line.pages.discard(page)
            if not line.pages and self._lines.get(project_id) is line:
                del self._lines[project_id]
                line.close()

    async def _read(self, project_id: int, line: _Line) -> None:
        try:
            async with aclosing(self._listen(project_id)) as heard:
                async for text in heard:
                    line.hear(text)
        finally:
            line.end()
