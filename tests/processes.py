"""The product as processes: starting ``querent`` for a home, and finding whatever runs for a home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.waiting import until

QUERENT = Path(sys.executable).with_name("querent")
START_SECONDS = 60
STOP_SECONDS = 10
GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)


def clean_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without any setting of Querent, so that servers are embedded."""
    ours = {name for name in os.environ if name.startswith("QUERENT_")} | {"DATABASE_URL", "REDIS_URL"}
    return {name: value for name, value in os.environ.items() if name not in ours} | variables


def querent(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of Querent to its end."""
    return subprocess.run(
        [QUERENT, *arguments],
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
        env=clean_environment() if environment is None else environment,
    )


def processes_of(home: Path) -> list[psutil.Process]:
    """Return every living process that serves this home: servers, their keepers, and the product's programs."""
    return [process for process in psutil.process_iter() if _serves(process, str(home))]


def _serves(process: psutil.Process, home: str) -> bool:
    try:
        if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
            return False
        return (
            process.cwd().startswith(home)
            or any(argument.startswith(home) for argument in process.cmdline())
            or process.environ().get("QUERENT_HOME") == home
        )
    except GONE:
        return False


@dataclass(frozen=True)
class Product:
    """A ``querent up`` that was started."""

    home: Path
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self.output.read_text()

    @property
    def url(self) -> str:
        """Where it listens, once it is ready."""
        return str(until(self._told, START_SECONDS, f"querent up is ready; it said: {self.said}")["url"])

    def child(self, name: str) -> psutil.Process | None:
        """Return the process of web, worker or beat, if it runs."""
        mark = {"web": "uvicorn", "worker": "worker", "beat": "beat"}[name]
        for process in psutil.Process(self.process.pid).children():
            try:
                if mark in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                    return process
            except GONE:
                continue
        return None

    def answers(self) -> bool:
        """Whether its web answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self, signum: int) -> int:
        """Send a signal and return the exit code, within the seconds that stopping may take."""
        self.process.send_signal(signum)
        return self.process.wait(STOP_SECONDS)

    def _told(self) -> dict[str, Any] | None:
        assert self.process.poll() is None, self.said
        path = self.home / "up.json"
        told: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return told if told.get("pid") == self.process.pid else None  # a killed one leaves its file


@contextmanager
def running(home: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Product]:
    """Start ``querent up`` on a home, on a free port unless told otherwise; kill it at the end if it still runs."""
    output = home.with_name(f"{home.name}.output")
    port = [] if "--port" in arguments else ["--port", "0"]
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [QUERENT, "up", "--home", home, *port, *arguments],
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=clean_environment() if environment is None else environment,
        )
    try:
        yield Product(home, process, output)
    finally:
        process.kill()
        process.wait()
        until(lambda: not processes_of(home), STOP_SECONDS, f"nothing runs for {home}")
