"""The product's processes as ``querent up`` starts them, and how much of the cores each of them takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from app import embedded
from app.children import Child, children_of, environment_of
from app.database import Database, upgrade
from app.settings import Settings, load_settings
from tests.browser.web import free_port
from tests.processes import processes_of


@contextmanager
def servers() -> Iterator[tuple[Settings, Database]]:
    """Run embedded Postgres and Redis for a home of their own, with all tables."""
    with TemporaryDirectory(prefix="querent-load-") as folder:
        given = load_settings(home=Path(folder) / "home", port=free_port(), demo=False, log_level="WARNING")
        with embedded.servers(given) as settings:
            upgrade(str(settings.database_url))
            database = Database(str(settings.database_url))
            try:
                yield settings, database
            finally:
                database.close()


@contextmanager
def product(settings: Settings) -> Iterator[None]:
    """Run web, worker and beat with the very commands of ``querent up``."""
    children: tuple[Child, ...] = children_of(settings)
    environment = environment_of(settings)
    try:
        for child in children:
            child.start(environment)
        yield
    finally:
        for child in reversed(children):
            child.stop()


class Cores:
    """How many seconds of CPU each part of the product takes while this is open."""

    def __init__(self, settings: Settings) -> None:
        self._home = settings.home
        self._before = self._now()
        self._began = time.monotonic()

    def shares(self) -> dict[str, float]:
        """Return the share of one core by part, this process as ``generator``."""
        seconds, after = self.seconds, self._now()
        return {
            f"cpu_{name}": round((after[name] - self._before.get(name, 0.0)) / seconds, 3) for name in sorted(after)
        }

    @property
    def seconds(self) -> float:
        """How long this is open."""
        return time.monotonic() - self._began

    def _now(self) -> dict[str, float]:
        own = psutil.Process().cpu_times()
        taken = {"generator": own.user + own.system}
        for process in processes_of(self._home):
            try:
                name, times = _part(process), process.cpu_times()
            except psutil.Error:
                continue
            taken[name] = taken.get(name, 0.0) + times.user + times.system
        return taken


def _part(process: psutil.Process) -> str:
    command = " ".join([process.name(), *process.cmdline()])
    for word, name in (("uvicorn", "web"), (" beat", "beat"), (" worker", "worker"), ("redis", "redis")):
        if word in command:
            return name
    return "postgres" if "postgres" in command else "other"
