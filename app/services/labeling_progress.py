"""What the labeling page says around the image: how far batch and budget are, and why there is nothing to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Select, bindparam, func, select
from sqlalchemy.orm import Session

from app.records import (
    Annotation,
    Import,
    ImportState,
    Lease,
    Outcome,
    Project,
    ProjectState,
    Query,
    Round,
    RoundState,
)
from app.services import projects, rounds
from app.services.queue import standing


class NothingKind(StrEnum):
    """Why there is no query for a person right now."""

    IMPORTING = "importing"
    EMPTY = "empty"
    PAUSED = "paused"
    BUDGET = "budget"
    TRAINING = "training"
    CHOOSING = "choosing"  # the first queries
    LEASED = "leased"
    FAILED = "failed"
    OTHERS = "others"  # whose answers the batch still wants
    DONE = "done"
    NO_MODEL = "no_model"  # on the grid: before the first network
    ONE_BY_ONE = "one_by_one"  # on the grid: what is left is asked without showing what the network believes


@dataclass(frozen=True)
class Nothing:
    """Why there is no query; ``wait`` says that one may come by itself. Pages say it in words, with the ``values``."""

    kind: NothingKind
    wait: bool
    values: Mapping[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelingProgress:
    """How far the batch and the budget are.

    Attributes:
        batch_answered: queries of the latest batch that are closed, out of ``batch_size``.
        labels_used: labels given by everybody, out of ``budget``.
        own_labels: labels given by this person.
        classes_version: raised whenever names or keys of classes change.
        stage: what the worker does now, as the round keeps it; None when it does nothing.
    """

    round_number: int
    batch_answered: int
    batch_size: int
    labels_used: int
    budget: int
    own_labels: int
    classes_version: int
    stage: dict[str, Any] | None


def progress(session: Session, project_id: int, user_id: int) -> LabelingProgress:
    """Return what the page shows beside the image, in one statement: it is asked for with every answer.

    Raises:
        NotFound: there is no such project.
    """
    found = session.execute(_progress_statement(), {"project": project_id, "person": user_id}).one_or_none()
    if found is None:
        raise projects.unknown(project_id)
    number, answered, size, used, budget, own_labels, version, state, stage = found
    return LabelingProgress(
        round_number=number,
        batch_answered=answered,
        batch_size=size,
        labels_used=used,
        budget=budget,
        own_labels=own_labels,
        classes_version=version,
        stage=None if state is None else stage or {"stage": state.value},
    )


@cache
def _progress_statement() -> Select[Any]:
    """Build the statement of ``progress``, once: that takes as long as the database needs to answer it."""
    project_id = bindparam("project", type_=BigInteger)
    of_project = Round.project_id == project_id
    done = select(Round.id, Round.number).where(of_project, Round.state == RoundState.DONE)
    asked = done.order_by(Round.number.desc()).limit(1).cte("asked")
    batch = (
        select(func.count().label("size"), func.count(Query.closed_at).label("answered"))
        .where(Query.round_id == select(asked.c.id).scalar_subquery(), ~Query.reserve)
        .cte("batch")
    )
    own = select(func.count()).where(
        Annotation.project_id == project_id,
        Annotation.user_id == bindparam("person", type_=BigInteger),
        Annotation.outcome == Outcome.LABEL,
        *standing(),
    )
    now = select(Round.state, Round.progress).where(of_project, Round.state.in_(rounds.OPEN)).cte("now")
    return select(
        func.coalesce(select(asked.c.number).scalar_subquery(), 0),
        select(batch.c.answered).scalar_subquery(),
        select(batch.c.size).scalar_subquery(),
        Project.labels_used,
        Project.budget,
        own.scalar_subquery(),
        Project.classes_version,
        select(now.c.state).scalar_subquery(),
        select(now.c.progress).scalar_subquery(),
    ).where(Project.id == project_id)


def why_nothing(session: Session, project_id: int, user_id: int) -> Nothing:
    """Say why the person has no query, the most telling reason first."""
    project = projects.get(session, project_id)
    found = _why_not_asked(session, project) or _why_not_now(session, project_id, user_id)
    return found or Nothing(NothingKind.DONE, wait=True)


def _why_not_asked(session: Session, project: Project) -> Nothing | None:
    """Reasons that hold for everybody until an admin acts."""
    if not project.image_count and _imports(session, project.id):
        return Nothing(NothingKind.IMPORTING, wait=True)
    if not project.image_count:
        return Nothing(NothingKind.EMPTY, wait=False)
    if project.state is ProjectState.PAUSED:
        return Nothing(NothingKind.PAUSED, wait=True)
    if project.labels_used >= project.budget:
        return Nothing(NothingKind.BUDGET, wait=False, values={"budget": project.budget})
    return None


def _why_not_now(session: Session, project_id: int, user_id: int) -> Nothing | None:
    """Reasons that pass by themselves, or once a round has been tried again."""
    if rounds.is_open(session, project_id):
        kind = NothingKind.TRAINING if _has_answers(session, project_id) else NothingKind.CHOOSING
        return Nothing(kind, wait=True)
    until = _leased_until(session, project_id, user_id)
    if until is not None:
        return Nothing(NothingKind.LEASED, wait=True, values={"until": until.isoformat()})
    latest = rounds.latest_round(session, project_id)
    if latest is not None and latest.state is RoundState.FAILED:
        values: dict[str, int | str] = {"number": latest.number, "error": latest.error or ""}
        return Nothing(NothingKind.FAILED, wait=True, values=values)
    if latest is None:
        return Nothing(NothingKind.CHOOSING, wait=True)
    # what is open to others was answered or skipped by this person
    asked = select(Query.id).where(Query.project_id == project_id, Query.open_answers > 0, ~Query.reserve).limit(1)
    return None if session.scalar(asked) is None else Nothing(NothingKind.OTHERS, wait=True)


def _imports(session: Session, project_id: int) -> bool:
    unfinished = (ImportState.REQUESTED, ImportState.RUNNING)
    wanted = select(Import.id).where(Import.project_id == project_id, Import.state.in_(unfinished))
    return session.scalar(wanted.limit(1)) is not None


def _has_answers(session: Session, project_id: int) -> bool:
    given = select(Annotation.id).where(Annotation.project_id == project_id, *standing())
    return session.scalar(given.limit(1)) is not None


def _leased_until(session: Session, project_id: int, user_id: int) -> datetime | None:
    others = select(func.min(Lease.expires_at)).where(
        Lease.project_id == project_id, Lease.user_id != user_id, ~Lease.is_check
    )
    return session.scalar(others)
