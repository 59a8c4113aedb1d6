"""The tasks of the worker: ids in, one call, done. Delivered twice, each does nothing the second time.

What learns is imported when it is first called, so that beat, which only sends tasks, stays small.
"""

from __future__ import annotations

from app.outbox import TaskName
from worker.main import SWEEP, app, database, storage, worker_settings


@app.task(name=TaskName.RUN_ROUND.value)
def run_round(project_id: int) -> None:
    """Run the project's open round."""
    from worker.rounds import RoundRunner

    RoundRunner(database(), storage(), worker_settings()).run(project_id)


@app.task(name=TaskName.ANSWER_BATCH.value)
def answer_batch(project_id: int) -> None:
    """Let the simulated oracle answer what is asked."""
    from worker import answering

    answering.answer_batch(database(), project_id)


@app.task(name=TaskName.RUN_IMPORT.value)
def run_import(import_id: int) -> None:
    """Bring the images of an import into its project."""
    from worker import imports

    imports.run(database(), storage(), import_id, worker_settings().home / "data")


@app.task(name=SWEEP)
def sweep() -> None:
    """Repair what a crash or a dead broker left behind."""
    from worker import sweeps

    sweeps.sweep(database(), worker_settings().sweep_seconds)
