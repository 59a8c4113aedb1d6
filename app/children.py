"""The programs that make up the product: their commands, their environment, their logs, how each one is stopped.

When they are started and stopped is for ``supervisor`` to say.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from app.embedded import PACKAGE_ROOT
from app.processes import open_log, spawn, stop
from app.settings import Settings

FIRST_BACKOFF_SECONDS = 0.2
LONGEST_BACKOFF_SECONDS = 30.0
SETTLED_SECONDS = 60.0
# In the middle of a fit the worker heeds SIGTERM only when the round is done. It is cut off then, as rounds are safe to
# repeat. Not by SIGQUIT: Celery's solo pool answers that by raising NotImplementedError within the round.
STOP_STEPS = ((signal.SIGTERM, 3.0), (signal.SIGKILL, 1.0))
LOUD = re.compile(r"\b(ERROR|CRITICAL)\b")


@dataclass
class Child:
    """A program that shall run as long as ``querent up`` does."""

    name: str
    command: Sequence[str]
    home: Path
    process: Popen[bytes] | None = None
    starts: int = 0
    wake_at: float | None = None  # when it shall be started, on the monotonic clock
    _started: float = 0.0
    _backoff_seconds: float = FIRST_BACKOFF_SECONDS
    _log: int | None = None
    _read: int = 0

    @property
    def log_path(self) -> Path:
        """Where what it writes is kept."""
        return self.home / "logs" / f"{self.name}.log"

    def start(self, environment: Mapping[str, str]) -> None:
        """Start it; its log goes on if it ran before."""
        if self._log is None:
            self._log = open_log(self.home, self.name)
        self.process = spawn(self.command, environment=environment, output=self._log, folder=PACKAGE_ROOT)
        self._started = time.monotonic()
        self.starts += 1
        self.wake_at = None

    def start_later(self, seconds: float) -> None:
        """Ask to be started after this time."""
        self.wake_at = time.monotonic() + seconds

    def start_again(self) -> None:
        """Ask to be started again: soon after a first death, later and later if it does not live long."""
        if time.monotonic() - self._started > SETTLED_SECONDS:
            self._backoff_seconds = FIRST_BACKOFF_SECONDS
        self.start_later(self._backoff_seconds)
        self._backoff_seconds = min(2 * self._backoff_seconds, LONGEST_BACKOFF_SECONDS)

    def stop(self) -> None:
        """Stop it and all it started."""
        if self.process is not None:
            stop(self.process, STOP_STEPS)
        if self._log is not None:
            os.close(self._log)
            self._log = None

    def new_errors(self) -> list[str]:
        """Return the lines that it logged as errors since the last call."""
        if self._log is None or self.log_path.stat().st_size == self._read:
            return []
        with self.log_path.open("rb") as log:
            log.seek(self._read)
            written = log.read()
        complete = written[: written.rfind(b"\n") + 1]
        self._read += len(complete)
        return [line for line in complete.decode(errors="replace").splitlines() if LOUD.search(line)]

    def last_line(self) -> str:
        """Return the end of its log."""
        lines = self.log_path.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def children_of(settings: Settings) -> tuple[Child, ...]:
    """Return the programs of the product, the web first: people wait for it."""
    level = settings.log_level
    celery = [sys.executable, "-m", "celery", "-A", "worker.main"]
    web = [sys.executable, "-m", "uvicorn", "app.main:application", "--factory", "--no-access-log"]
    web += ["--host", settings.host, "--port", str(settings.port), "--log-level", level.lower()]
    web += ["--timeout-graceful-shutdown", "2"]
    worker = [*celery, "worker", "--pool=solo", "--concurrency=1", "--without-gossip", "--without-mingle"]
    worker += ["--without-heartbeat", f"--loglevel={level}"]
    beat = [*celery, "beat", "--schedule", str(settings.home / "run" / "beat"), "--pidfile=", f"--loglevel={level}"]
    return (
        Child("web", web, settings.home),
        Child("worker", worker, settings.home),
        Child("beat", beat, settings.home),
    )


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the environment in which a child reads the same settings, whatever its working directory."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        variable = name.upper() if name in {"database_url", "redis_url"} else f"QUERENT_{name.upper()}"
        if value is None:
            environment.pop(variable, None)
        else:
            environment[variable] = str(value)
    if settings.storage_url and "://" not in settings.storage_url:
        environment["QUERENT_STORAGE_URL"] = str(Path(settings.storage_url).absolute())
    return environment
