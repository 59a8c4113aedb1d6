"""The process that runs one server of a home while anyone uses it: ``python -m app.embedded.keeper postgres HOME``.

It starts the server, tells its URL (one JSON line on its output, and in ``run/<server>.json`` for those who come
later), starts it again at the same address should it die, and stops it after its last user. Who uses it is for the
package to say; the locks are described there. It imports little, because it stays in memory.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Protocol

from app.embedded.postgres import PostgresServer
from app.embedded.redis import RedisServer
from app.errors import QuerentError, Unavailable
from app.processes import FileLock, stop, wait_for, write_atomically

READY_SECONDS = 50.0
LOCK_SECONDS = 5.0
ORPHAN_STEPS = ((None, 2.0), (signal.SIGINT, 8.0), (signal.SIGKILL, 5.0))
LOOK_SECONDS = 0.1
FIRST_BACKOFF_SECONDS = 0.2
LONGEST_BACKOFF_SECONDS = 10.0
SETTLED_SECONDS = 60.0
LOG = 2  # whoever starts the keeper gives it the server's log as standard error


class EmbeddedServer(Protocol):
    """What differs between the two servers."""

    data: Path
    stop_steps: tuple[tuple[int, float], ...]

    @property
    def url(self) -> str:
        """Where it answers."""

    def prepare(self) -> None:
        """Make its data folder."""

    def start(self, log: int, lock: int) -> subprocess.Popen[bytes]:
        """Start it, inheriting the lock."""

    def is_ready(self) -> bool:
        """Whether it answers."""

    def clear(self) -> None:
        """Remove what an earlier start left, now that nothing of it runs."""

    def close(self) -> None:
        """Remove what was made outside the home."""


class Keeper:
    """Keeps one server of a home running until its last user has gone."""

    def __init__(self, name: str, home: Path) -> None:
        self._name = name
        self._home = home
        self._run = home / "run"
        self._state = self._run / f"{name}.json"
        self._users = FileLock(self._run / f"{name}.users")
        self._own = FileLock(self._run / f"{name}.keeper")
        self._told_to_stop = False

    def keep(self) -> None:
        """Start the server, tell its URL, return after it was stopped."""
        for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(signum, self._heed)
        if not wait_for(self._own.try_exclusive, LOCK_SECONDS):
            raise Unavailable(self._name, "it is being started twice", "try again")
        self._state.unlink(missing_ok=True)
        server: EmbeddedServer = PostgresServer(self._home) if self._name == "postgres" else RedisServer(self._home)
        server.prepare()
        try:
            self._serve(server)
        finally:
            self._state.unlink(missing_ok=True)
            server.close()

    def _serve(self, server: EmbeddedServer) -> None:
        process = self._start(server)
        try:
            _tell({"url": server.url})
            backoff_seconds, started = FIRST_BACKOFF_SECONDS, time.monotonic()
            while not self._told_to_stop and not self._users.try_exclusive():
                time.sleep(LOOK_SECONDS)
                if process.poll() is None:
                    continue
                if time.monotonic() - started > SETTLED_SECONDS:
                    backoff_seconds = FIRST_BACKOFF_SECONDS
                time.sleep(backoff_seconds)
                backoff_seconds = min(2 * backoff_seconds, LONGEST_BACKOFF_SECONDS)
                started = time.monotonic()
                try:
                    process = self._start(server)
                except Unavailable as error:
                    os.write(LOG, f"{error}\n".encode())
        finally:
            self._state.unlink(missing_ok=True)  # before it stops: nobody shall be sent to a server that is going
            stop(process, server.stop_steps)

    def _start(self, server: EmbeddedServer) -> subprocess.Popen[bytes]:
        lock = FileLock(self._run / f"{self._name}.server")
        try:
            self._end_orphans(lock, server.data)
            server.clear()
            process = server.start(LOG, lock.descriptor)
        finally:
            lock.close()  # the server alone holds it now, for as long as one of its processes lives
        if not wait_for(lambda: server.is_ready() or process.poll() is not None, READY_SECONDS):
            stop(process, server.stop_steps)
            raise Unavailable(self._name, f"it was not ready in {READY_SECONDS:.0f} s", self._remedy())
        if process.poll() is not None:
            raise Unavailable(self._name, f"it does not start: {self._last_words()}", self._remedy())
        state = {"url": server.url, "pid": process.pid, "keeper": os.getpid()}
        write_atomically(self._state, json.dumps(state))
        return process

    def _end_orphans(self, lock: FileLock, data: Path) -> None:
        """Wait until no process of an earlier start is left; they were told to stop when their keeper died."""
        for signum, patience_seconds in ORPHAN_STEPS:
            if signum is not None:
                _signal_servers_of(data, signum)
            if wait_for(lock.try_exclusive, patience_seconds):
                return
        raise Unavailable(self._name, "processes of an earlier start do not end", self._remedy())

    def _last_words(self) -> str:
        lines = (self._home / "logs" / f"{self._name}.log").read_text(errors="replace").splitlines()
        return next((line for line in reversed(lines) if "FATAL" in line), lines[-1] if lines else "it said nothing")

    def _remedy(self) -> str:
        return f"see {self._home / 'logs' / self._name}.log"

    def _heed(self, signum: int, frame: FrameType | None) -> None:
        del frame
        self._told_to_stop = self._told_to_stop or signum == signal.SIGTERM


def _signal_servers_of(data: Path, signum: int) -> None:
    import psutil

    for process in psutil.process_iter(["name", "cwd"]):
        if process.info["name"] in {"postgres", "redis-server"} and process.info["cwd"] == str(data):
            process.send_signal(signum)


def _tell(answer: dict[str, str]) -> None:
    with suppress(BrokenPipeError):  # whoever asked may have ended; it counts as a user no more
        os.write(1, (json.dumps(answer) + "\n").encode())
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def main() -> int:
    """Keep the server that the command line names."""
    name, home = sys.argv[1:]
    try:
        Keeper(name, Path(home)).keep()
    except QuerentError as error:
        _tell(error.as_json())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
