"""``querent benchmark``: the worker's own program, which does not need servers, in this process's place."""

from __future__ import annotations

import os
import sys

import typer


def benchmark(context: typer.Context) -> None:
    """Rebuild published tables with this engine: list, run NAME, report DIR; each explains itself with --help."""
    from app.children import environment_of
    from app.embedded import PACKAGE_ROOT
    from app.errors import Unavailable
    from app.settings import load_settings

    if not (PACKAGE_ROOT / "worker" / "benchmark").is_dir():
        raise Unavailable("benchmark", "this installation has no worker", "use the image of the worker, or a checkout")
    settings = load_settings()
    environment = environment_of(settings)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGE_ROOT), environment.get("PYTHONPATH")]))
    environment["OMP_NUM_THREADS"] = "1"  # each run computes on one core; several run side by side
    # -P: a folder called worker where the command is typed is not ours
    command = [sys.executable, "-P", "-m", "worker.benchmark", "--results", str(settings.results_folder), *context.args]
    sys.stdout.flush()
    # In this process's place rather than as its child, so that signals, the terminal and the exit code are its own.
    os.execve(sys.executable, command, environment)  # noqa: S606 - the command is our own
