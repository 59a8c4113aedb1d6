"""What the labeling page says around the image: how far batch and budget are, and why there is nothing to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import func, select
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
    LEASED = "leased"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True)
class Nothing:
    """Why there is no query, and what to do about it; ``wait`` says that one may come by itself."""

    kind: NothingKind
    reason: str
    remedy: str
    wait: bool


@dataclass(frozen=True)
class LabelingProgress:
    """How far the batch and the budget are.

    Attributes:
        batch_answered: queries of the latest batch that are closed, out of ``batch_size``.
        labels_used: labels given by everybody, out of ``budget``.
        own_labels: labels given by this person.
        stage: what the worker does now, as the round keeps it; None when it does nothing.
    """

    round_number: int
    batch_answered: int
    batch_size: int
    labels_used: int
    budget: int
    own_labels: int
    stage: dict[str, Any] | None


def progress(session: Session, project_id: int, user_id: int) -> LabelingProgress:
    """Return what the page shows beside the image, in four small queries."""
    project = projects.get(session, project_id)
    asked = session.scalar(
        select(Round)
        .where(Round.project_id == project_id, Round.state == RoundState.DONE)
        .order_by(Round.number.desc())
        .limit(1)
    )
    size = answered = 0
    if asked is not None:
        counts = select(func.count(), func.count(Query.closed_at)).where(Query.round_id == asked.id, ~Query.reserve)
        size, answered = session.execute(counts).one()
    own = select(func.count()).where(
        Annotation.project_id == project_id,
        Annotation.user_id == user_id,
        Annotation.outcome == Outcome.LABEL,
        *standing(),
    )
    current = session.scalar(select(Round).where(Round.project_id == project_id, Round.state.in_(rounds.OPEN)))
    return LabelingProgress(
        round_number=0 if asked is None else asked.number,
        batch_answered=answered,
        batch_size=size,
        labels_used=project.labels_used,
        budget=project.budget,
        own_labels=session.scalar(own) or 0,
        stage=None if current is None else (current.progress or {"stage": current.state.value}),
    )


def why_nothing(session: Session, project_id: int, user_id: int) -> Nothing:
    """Say why the person has no query, the most telling reason first."""
    project = projects.get(session, project_id)
    found = _why_not_asked(session, project) or _why_not_now(session, project_id, user_id)
    if found is not None:
        return found
    reason = "You have seen every image that can be asked about."
    return Nothing(NothingKind.DONE, reason, "What you skipped waits for somebody else.", wait=True)


def _why_not_asked(session: Session, project: Project) -> Nothing | None:
    """Reasons that hold for everybody until an admin acts."""
    if not project.image_count and _imports(session, project.id):
        return Nothing(
            NothingKind.IMPORTING, "Images are being imported.", "They appear here by themselves.", wait=True
        )
    if not project.image_count:
        return Nothing(NothingKind.EMPTY, "The project has no images.", "An admin can import some.", wait=False)
    if project.state is ProjectState.PAUSED:
        return Nothing(NothingKind.PAUSED, "The project is paused.", "An admin can start it again.", wait=True)
    if project.labels_used >= project.budget:
        reason = f"The budget is spent: all {project.budget} labels are given."
        return Nothing(NothingKind.BUDGET, reason, "An admin can raise the budget.", wait=False)
    return None


def _why_not_now(session: Session, project_id: int, user_id: int) -> Nothing | None:
    """Reasons that pass by themselves, or once a round has been tried again."""
    if rounds.is_open(session, project_id):
        reason = "The network is learning from the last answers."
        return Nothing(NothingKind.TRAINING, reason, "The next batch appears here by itself.", wait=True)
    until = _leased_until(session, project_id, user_id)
    if until is not None:
        reason = "Others hold the remaining images of this batch."
        return Nothing(NothingKind.LEASED, reason, f"They come back by {until:%H:%M:%S} UTC if unanswered.", wait=True)
    latest = rounds.latest_round(session, project_id)
    if latest is not None and latest.state is RoundState.FAILED:
        reason = f"Round {latest.number} failed: {latest.error}."
        return Nothing(NothingKind.FAILED, reason, "An admin can try again on the project's page.", wait=True)
    if latest is None:
        return Nothing(NothingKind.TRAINING, "The first queries are being chosen.", "They appear here soon.", wait=True)
    return None


def _imports(session: Session, project_id: int) -> bool:
    unfinished = (ImportState.REQUESTED, ImportState.RUNNING)
    wanted = select(Import.id).where(Import.project_id == project_id, Import.state.in_(unfinished))
    return session.scalar(wanted.limit(1)) is not None


def _leased_until(session: Session, project_id: int, user_id: int) -> datetime | None:
    others = select(func.min(Lease.expires_at)).where(Lease.project_id == project_id, Lease.user_id != user_id)
    return session.scalar(others)
