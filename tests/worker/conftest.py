"""A real Celery worker process, started when a test needs it and stopped with the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.database import Database
from app.events import Bus
from app.settings import Settings
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]


class Worker:
    """One worker process."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self._log = log
        environment = {
            **os.environ,
            "DATABASE_URL": str(settings.database_url),
            "REDIS_URL": str(settings.redis_url),
            "QUERENT_HOME": str(settings.home),
            "QUERENT_SWEEP_SECONDS": "0.5",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "celery", "-A", "worker.main", "worker", "--pool=solo", "--loglevel=INFO"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        with log.open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=ROOT)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def log(self) -> str:
        """Return what it has logged."""
        return self._log.read_text()


@pytest.fixture
def start_worker(settings: Settings) -> Iterator[Callable[[], Worker]]:
    """Start workers whose sweep also runs at their start; all are killed at the end."""
    started: list[Worker] = []

    def start() -> Worker:
        worker = Worker(settings, settings.home / "worker.log")
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.kill()


@pytest.fixture
def bus(settings: Settings) -> Iterator[Bus]:
    """This test's line to Redis."""
    line = Bus(str(settings.redis_url))
    yield line
    line.close()


@pytest.fixture
def sending(database: Database, settings: Settings, bus: Bus) -> Iterator[Database]:
    """The session's database, with tasks and events delivered for real."""
    opened = Database(str(settings.database_url), bus.deliver)
    yield opened
    opened.close()


@pytest.fixture
def worker(start_worker: Callable[[], Worker], bus: Bus) -> Worker:
    """A worker that is ready."""
    started = start_worker()
    until(lambda: "ready" in started.log(), 60, "the worker is ready")
    return started
