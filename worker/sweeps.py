"""Periodic repair: whatever a crash or a dead broker has left behind is found in the tables and set going again.

Rows are the truth and tasks only wake the worker, so every finding is answered by sending a task that does nothing if
it was not needed.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from app.database import Database
from app.outbox import TaskName, send_task
from app.records import Import, ImportState, Lease, OracleKind, Project, ProjectState, Query, Round
from app.services import leases
from app.services.rounds import OPEN


def sweep(database: Database, grace_seconds: float) -> None:
    """Return expired leases; wake rounds, imports and simulated answers that nobody works on.

    Args:
        grace_seconds: age under which a request is left to the task that was sent with it.
    """
    with database.transaction() as session:
        project_ids = session.scalars(select(Lease.project_id).where(Lease.expires_at < func.now()).distinct()).all()
    for project_id in project_ids:
        with database.transaction() as session:
            leases.return_expired(session, project_id)
            session.commit()
    with database.transaction() as session:
        for project_id in _open_rounds(session, grace_seconds):
            send_task(session, TaskName.RUN_ROUND, project_id)
        for import_id in _open_imports(session, grace_seconds):
            send_task(session, TaskName.RUN_IMPORT, import_id)
        for project_id in _waiting_oracles(session):
            send_task(session, TaskName.ANSWER_BATCH, project_id)
        session.commit()


def _open_rounds(session: Session, grace_seconds: float) -> list[int]:
    """Return projects whose open round is old enough; one that is being run is protected by its runner's lock."""
    old = func.now() - timedelta(seconds=grace_seconds)
    return list(session.scalars(select(Round.project_id).where(Round.state.in_(OPEN), Round.requested_at < old)))


def _open_imports(session: Session, grace_seconds: float) -> list[int]:
    old = func.now() - timedelta(seconds=grace_seconds)
    unfinished = (ImportState.REQUESTED, ImportState.RUNNING)
    return list(session.scalars(select(Import.id).where(Import.state.in_(unfinished), Import.created_at < old)))


def _waiting_oracles(session: Session) -> list[int]:
    asked = exists().where(Query.project_id == Project.id, Query.open_answers > 0, ~Query.reserve)
    learning = exists().where(Round.project_id == Project.id, Round.state.in_(OPEN))
    waiting = select(Project.id).where(
        Project.oracle == OracleKind.SIMULATED, Project.state == ProjectState.RUNNING, asked, ~learning
    )
    return list(session.scalars(waiting))
