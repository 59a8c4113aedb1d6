"""A simulation as a command sees it: a project is set going, its rounds are watched, and it is put back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.cli.connecting import Connected, connected
from app.cli.importing import follow_import, source_of, tell_broken
from app.cli.recipe_options import changed_recipe
from app.cli.working import WorkerAtHand, worker_at_hand
from app.database import Database
from app.errors import Unavailable
from app.recipes import parse_recipe
from app.records import OracleKind, ProjectState, Round, RoundState
from app.services import importing, projects, rounds
from app.services.projects import NewProject
from app.storage import Storage

LOOK_SECONDS = 0.1
COLUMNS = ("round", "labels", "test accuracy", "95% interval", "test NLL", "fit", "score")
TESTED = ("test_accuracy", "test_accuracy_low", "test_accuracy_high", "test_nll")

Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is to be simulated: an existing project or a source; ``recipe`` holds only what was given."""

    project: str | None
    source: str | None
    data: str | None
    pool: int | None
    test: int | None
    budget: int
    recipe: dict[str, Any]
    noise: float
    keep: bool


def run(plan: Plan, home: Path | None, as_json: bool) -> None:
    """Simulate and print, on the running servers or on embedded ones for the time it takes.

    Raises:
        NotFound: there is no such project.
        Conflict: the project's images have no known classes, or there are none.
        Unavailable: a round failed, or no worker can be started.
    """
    with (
        connected(home) as line,
        worker_at_hand(line.settings, line.bus) as worker,
        _simulated(line, plan, worker) as (project_id, seen),
    ):
        _print(_learned(line.database, project_id, seen, worker), plan.budget, as_json)


@contextmanager
def _simulated(line: Connected, plan: Plan, worker: WorkerAtHand) -> Iterator[tuple[int, int]]:
    """Set a project going with the simulated oracle; yield its id and the number of its latest ended round.

    At the end the oracle and the state are put back; a project that was made for this is deleted unless it is kept.
    """
    database = line.database
    is_ours = plan.project is None
    project_id = _made(line, plan, worker) if is_ours else _found(database, plan)
    with database.transaction() as session:
        project = projects.get(session, project_id)
        oracle, noise, state = project.oracle, project.oracle_noise, project.state
        latest = rounds.latest_round(session, project_id)
        seen = -1 if latest is None else latest.number - (latest.state in rounds.OPEN)
        projects.set_budget(session, project_id, max(plan.budget, project.labels_used))
        projects.set_oracle(session, project_id, OracleKind.SIMULATED, plan.noise)
        projects.set_state(session, project_id, ProjectState.RUNNING)
        session.commit()
    try:
        yield project_id, seen
    finally:
        with database.transaction() as session:
            if is_ours and not plan.keep:
                projects.delete(session, project_id)
            else:
                kind = OracleKind.HUMAN if is_ours else oracle
                projects.set_oracle(session, project_id, kind, noise)
                projects.set_state(session, project_id, state)
            session.commit()


def _made(line: Connected, plan: Plan, worker: WorkerAtHand) -> int:
    recipe = parse_recipe(plan.recipe)
    storage = Storage(line.settings.storage)
    source = source_of(str(plan.source), plan.data, plan.pool, plan.test, storage=storage)
    with line.database.transaction() as session:
        name = f"Simulation {uuid4().hex[:8]} on {source.kind.value}"
        made = projects.create(session, NewProject(name, recipe, plan.budget))
        wanted = importing.request_import(session, made.id, source, start_when_done=False)
        session.commit()
    tell_broken(follow_import(line.database, wanted.id, worker))
    return made.id


def _found(database: Database, plan: Plan) -> int:
    with database.transaction() as session:
        found = projects.find(session, str(plan.project))
        if plan.recipe:
            projects.set_recipe(session, found.id, changed_recipe(found.recipe, plan.recipe))
            session.commit()
    return found.id


def _learned(database: Database, project_id: int, seen: int, worker: WorkerAtHand) -> Iterator[Row]:
    """Yield what each round that fitted a network learned, as they end, until the loop rests."""
    while True:
        with database.transaction() as session:
            # asked before the rounds are read: a round that ends in between is then read in the next turn
            is_settled = rounds.is_settled(session, project_id)
            ended = rounds.ended_after(session, project_id, seen)
        for found in ended:
            seen = found.number
            if found.state is RoundState.FAILED:
                raise Unavailable(f"round {found.number}", str(found.error).rstrip("."), "mend that and try again")
            if "epochs" in (found.metrics or {}):
                yield _row(found)
        if is_settled and not ended:
            return
        worker.look()
        time.sleep(LOOK_SECONDS)


def _row(found: Round) -> Row:
    metrics, timings = found.metrics or {}, found.timings or {}
    return {
        "round": found.number,
        "labels": found.labels,
        **{name: metrics.get(name) for name in TESTED},
        "seconds_fit": round(timings["seconds_fit"], 3),
        "seconds_score": round(timings["seconds_score"], 3),
    }


def _print(rows: Iterator[Row], budget: int, as_json: bool) -> None:
    table = Table(*COLUMNS)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("labels", total=budget)
        for row in rows:
            progress.update(bar, completed=row["labels"])
            if as_json:
                typer.echo(json.dumps(row))
            table.add_row(*_cells(row))
    if not as_json:
        Console().print(table)


def _cells(row: Row) -> tuple[str, ...]:
    tested = ("no test images", "", "")
    if row["test_accuracy"] is not None:
        interval = f"{row['test_accuracy_low']:.2%} to {row['test_accuracy_high']:.2%}"
        tested = (f"{row['test_accuracy']:.2%}", interval, f"{row['test_nll']:.3f}")
    times = (f"{row['seconds_fit']:.2f} s", f"{row['seconds_score']:.2f} s")
    return (str(row["round"]), str(row["labels"]), *tested, *times)
