"""Postgres and Redis of one home, for whoever needs them: shared by every command that runs on it.

Each server has a keeper, a small process that runs it for as long as anyone uses it. Whoever uses a server holds a
shared lock on ``run/<server>.users``; the keeper stops the server when it can take that lock alone, that is, when the
last user has ended, by ``kill -9`` too. A user that comes while it stops waits, then starts anew. So ``querent up``
and other commands start and end in any order without pulling the servers away from each other. What a keeper does is in
``keeper``, what differs between the servers in ``postgres`` and ``redis``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import Unavailable
from app.processes import FileLock, is_held, open_log, wait_for

if TYPE_CHECKING:
    from app.settings import Settings  # the keeper imports this package and has no use for pydantic's 30 MB

PACKAGE_ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 60.0
STOP_SECONDS = 12.0


@contextmanager
def servers(settings: Settings) -> Iterator[Settings]:
    """Yield the settings with both URLs filled in; what has no URL runs for as long as this is open.

    Raises:
        Unavailable: a server cannot be started; says what to install or to set.
    """
    with ExitStack() as open_servers:
        uses = {
            field: _Use(settings.home, name)
            for field, name in (("database_url", "postgres"), ("redis_url", "redis"))
            if getattr(settings, field) is None
        }
        for use in uses.values():
            open_servers.callback(use.leave)
        for use in uses.values():  # asks to stop all before it waits for any, as starting does
            open_servers.callback(use.release)
        for use in uses.values():
            use.join()
        urls = {field: use.url() for field, use in uses.items()}
        yield settings.model_copy(update=urls)


class _Use:
    """This process's use of one server of a home."""

    def __init__(self, home: Path, name: str) -> None:
        self.home = home
        self.name = name
        run = home / "run"
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._state = run / f"{name}.json"
        self._keeper_lock = run / f"{name}.keeper"
        self._servers_lock = run / f"{name}.server"
        self._users = FileLock(run / f"{name}.users")
        self._starting = FileLock(run / f"{name}.start")
        self._keeper: subprocess.Popen[bytes] | None = None

    def join(self) -> None:
        """Count as a user and start the keeper if there is none; does not wait until the server is ready."""
        self._wait("another command is stopping it and does not end", self._users.try_shared)
        self._wait("another command is starting it and does not end", self._starting.try_exclusive)
        if not is_held(self._keeper_lock):
            command = [sys.executable, "-m", "app.embedded.keeper", self.name, str(self.home)]
            log = open_log(self.home, self.name)
            self._keeper = subprocess.Popen(  # noqa: S603 - our own command
                command,
                cwd=PACKAGE_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,  # not ours: who reads this command's output must not wait for the keeper's end
                start_new_session=True,  # it outlives this command if another one uses the server
            )
            os.close(log)
        else:
            self._starting.release()

    def url(self) -> str:
        """Wait until the server is ready and return its URL."""
        if self._keeper is None or self._keeper.stdout is None:
            self._wait("it is stopping", lambda: self._state.exists() or not is_held(self._keeper_lock))
            try:
                return str(json.loads(self._state.read_text())["url"])
            except FileNotFoundError:
                self.join()
                return self.url()
        answer = json.loads(self._keeper.stdout.readline() or "{}")
        self._starting.release()
        if "url" in answer:
            return str(answer["url"])
        self._keeper.wait()
        if "subject" in answer:
            raise Unavailable(answer["subject"], answer["reason"], answer["remedy"])
        raise Unavailable(self.name, "its keeper ended before it was ready", f"see {self.home / 'logs'}")

    def release(self) -> None:
        """No longer count as a user."""
        self._users.release()

    def leave(self) -> None:
        """Return when the server has stopped, or at once when others still use it."""
        deadline = time.monotonic() + STOP_SECONDS
        while (is_held(self._servers_lock) or is_held(self._keeper_lock)) and time.monotonic() < deadline:
            if self._users.try_exclusive():
                self._users.release()  # nobody uses it: the keeper sees the same within its next look
            elif self._users.try_shared():
                self._users.release()
                break
            time.sleep(0.05)
        if self._keeper is not None:
            self._keeper.poll()
            if self._keeper.stdout is not None:
                self._keeper.stdout.close()
        self._users.close()
        self._starting.close()

    def _wait(self, reason: str, condition: Callable[[], bool]) -> None:
        if not wait_for(condition, START_SECONDS):
            raise Unavailable(self.name, reason, f"see {self.home / 'logs'}, or set its URL")
