"""How soon the web process answers and how much memory it takes, beside a bare FastAPI application."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from app import embedded
from app.settings import Settings, load_settings
from tests.browser.web import free_port

ROOT = Path(__file__).resolve().parents[2]
REPEATS = 5
BARE = "from fastapi import FastAPI\napplication = FastAPI()\n@application.get('/healthz')\ndef ok(): return 'ok'\n"


def figures() -> dict[str, float]:
    """Return seconds to the first answer and megabytes of memory, medians of ``REPEATS`` starts."""
    with TemporaryDirectory() as folder, embedded.servers(load_settings(home=folder)) as settings:
        (Path(folder) / "bare.py").write_text(BARE)
        ours = [_start(settings, ["app.main:application", "--factory"], ROOT) for _ in range(REPEATS)]
        bare = [_start(settings, ["bare:application"], Path(folder)) for _ in range(REPEATS)]
    return {
        "web_ready_s": statistics.median(seconds for seconds, _ in ours),
        "web_ready_bare_fastapi_s": statistics.median(seconds for seconds, _ in bare),
        "web_memory_mb": statistics.median(megabytes for _, megabytes in ours),
        "web_memory_bare_fastapi_mb": statistics.median(megabytes for _, megabytes in bare),
    }


def _start(settings: Settings, application: list[str], folder: Path) -> tuple[float, float]:
    port = free_port()
    environment = {
        **os.environ,
        "DATABASE_URL": str(settings.database_url),
        "REDIS_URL": str(settings.redis_url),
        "QUERENT_HOME": str(settings.home),
    }
    command = [sys.executable, "-m", "uvicorn", *application, "--port", str(port), "--log-level", "warning"]
    began = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, env=environment) as process:
        while not _answers(port):
            time.sleep(0.01)
        seconds = time.perf_counter() - began
        megabytes = psutil.Process(process.pid).memory_info().rss / 2**20
        process.terminate()
    return seconds, megabytes


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1):
            return True
    except OSError:
        return False
