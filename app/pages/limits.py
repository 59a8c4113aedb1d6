"""Limits on what one browser may send: the size of a request, and how often a password is tried.

Failed sign-ins are counted in this process's memory, per name and address: a restart forgets them, and several web
processes count apart, which only multiplies the few tries by their number.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import TooLarge, TooManyTries

FORM_BYTES = 2 * 1024 * 1024
TRIES = 8
WINDOW_SECONDS = 300.0
REMEMBERED = 10_000


class BodyLimit:
    """ASGI middleware that stops reading a request once it is larger than its path allows.

    Args:
        app: the application.
        upload_bytes: limit on the paths in ``uploads``; everything else is a form and gets ``FORM_BYTES``.
        uploads: paths that take an archive.
    """

    def __init__(self, app: ASGIApp, upload_bytes: int, uploads: tuple[str, ...]) -> None:
        self._app = app
        self._upload_bytes = upload_bytes
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counted body."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD"}:
            await self._app(scope, receive, send)
            return
        limit = self._upload_bytes if scope["path"] in self._uploads else FORM_BYTES
        seen = int(dict(scope["headers"]).get(b"content-length", b"0") or 0)
        refused = seen > limit
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            if refused:
                raise _too_large(limit)
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise _too_large(limit)
            return message

        await self._app(scope, counted, send)


class Tries:
    """Counts failed sign-ins per key in a sliding window.

    ``turn`` is held while a password is checked: argon2 takes 64 MiB, so one at a time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.turn = threading.Lock()
        self._clock = clock
        self._lock = threading.Lock()
        self._failed: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    def check(self, name: str, address: str) -> None:
        """Raise TooManyTries when this name was tried too often from this address."""
        with self._lock:
            failed = self._recent(name, address)
            if len(failed) >= TRIES:
                minutes = max(1, round((failed[0] + WINDOW_SECONDS - self._clock()) / 60))
                raise TooManyTries(
                    "sign in",
                    f"the password of {name!r} was wrong {TRIES} times",
                    f"wait {minutes} minute{'s' if minutes > 1 else ''}, or ask an admin for a one-time link",
                )

    def count(self, name: str, address: str) -> None:
        """Remember one failed try."""
        with self._lock:
            failed = self._recent(name, address)
            failed.append(self._clock())
            self._failed[name, address] = failed
            self._failed.move_to_end((name, address))
            while len(self._failed) > REMEMBERED:
                self._failed.popitem(last=False)

    def forget(self, name: str, address: str) -> None:
        """Start again after a right password."""
        with self._lock:
            self._failed.pop((name, address), None)

    def _recent(self, name: str, address: str) -> deque[float]:
        failed = self._failed.get((name, address), deque())
        while failed and failed[0] < self._clock() - WINDOW_SECONDS:
            failed.popleft()
        return failed


def _too_large(limit: int) -> TooLarge:
    megabytes = limit // (1024 * 1024)
    return TooLarge("request", f"it is larger than {megabytes} MB", "send less, or ask an admin to raise the limit")
