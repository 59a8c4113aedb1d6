"""Labeling: answers are kept, counted once, and taken back.

Taking queries in the first place is ``app.services.claiming``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.errors import BadInput, BudgetSpent, Conflict, LeaseLost, QuerentError
from app.outbox import EventKind, announce
from app.records import (
    Annotation,
    Class,
    Lease,
    Outcome,
    Project,
    Query,
)
from app.services import rounds
from app.services.claiming import Ask, asks_of
from app.services.clock import now
from app.services.locks import lock_project, lock_query
from app.services.queue import settle, standing


@dataclass(frozen=True)
class Answer:
    """What somebody says to a query; ``client_id`` makes sending it twice harmless."""

    client_id: UUID
    project_id: int
    query_id: int
    user_id: int
    outcome: Outcome
    class_id: int | None = None
    seconds_taken: float | None = None


@dataclass(frozen=True)
class Answered:
    """What became of an answer: kept always, counted unless ``refusal`` says why not."""

    annotation_id: int
    replay: bool = False
    refusal: QuerentError | None = None

    @property
    def counted(self) -> bool:
        """Whether the answer counts."""
        return self.refusal is None


def answer(session: Session, given: Answer) -> Answered:
    """Keep an answer; the same ``client_id`` twice is one annotation.

    An answer whose lease has passed on, or that the budget no longer covers, is kept as well but not counted, and
    ``refusal`` says why.

    Raises:
        BadInput: the class is unknown or retired, or the outcome does not fit a class.
        NotFound: the project never asked this query.
        Conflict: the ``client_id`` belongs to another answer.
    """
    project = lock_project(session, given.project_id)
    known = session.scalar(select(Annotation).where(Annotation.client_id == given.client_id))
    if known is not None:
        return _replayed(known, given)
    query = lock_query(session, given.project_id, given.query_id)
    _check_class(session, given)
    refusal = _refusal(session, project, query, given)
    annotation = Annotation(
        client_id=given.client_id,
        project_id=project.id,
        query_id=query.id,
        image_id=query.image_id,
        user_id=given.user_id,
        outcome=given.outcome,
        class_id=given.class_id,
        seconds_taken=given.seconds_taken,
        counted=refusal is None,
    )
    session.add(annotation)
    session.execute(delete(Lease).where(Lease.query_id == query.id, Lease.user_id == given.user_id))
    if refusal is None and given.outcome is Outcome.LABEL:
        project.labels_used += 1
    settle(session, query)
    announce(session, project.id, EventKind.LABELS, labels_used=project.labels_used)
    rounds.request_if_due(session, project)
    return Answered(annotation.id, refusal=refusal)


def undo(session: Session, project_id: int, user_id: int, lease_seconds: float, client_id: UUID | None = None) -> Ask:
    """Take back one of the person's answers, the latest unless another is named, and hand them its query again.

    Raises:
        Conflict: there is nothing to take back, or the query has passed to somebody else since.
    """
    project = lock_project(session, project_id)
    own = select(Annotation).where(Annotation.project_id == project_id, Annotation.user_id == user_id)
    own = own.where(*standing()) if client_id is None else own.where(Annotation.client_id == client_id)
    latest = session.scalar(own.order_by(Annotation.id.desc()).limit(1))
    if latest is None:
        raise Conflict("undo", "you have no answer to take back here", "label some images first")
    if latest.revoked_at is not None or not latest.counted:
        # the reply to the first try may have been lost: the same query again, while the person still holds it
        if session.scalar(select(Lease.id).where(Lease.query_id == latest.query_id, Lease.user_id == user_id)):
            return asks_of(session, [latest.query_id])[0]
        raise Conflict("undo", "that answer does not count any more", "go on with the next image")
    query = lock_query(session, project_id, latest.query_id)
    elsewhere = select(Query.id).where(
        Query.image_id == query.image_id, Query.closed_at.is_(None), Query.id != query.id
    )
    if session.scalar(elsewhere) or (latest.outcome is Outcome.SKIP and not query.open_answers):
        raise Conflict("undo", "the image has passed to somebody else since", "leave it to them and go on")
    latest.revoked_at = now(session)
    if latest.outcome is Outcome.LABEL:
        project.labels_used -= 1
    session.add(_lease(session, query, user_id, lease_seconds))
    settle(session, query)
    announce(session, project_id, EventKind.LABELS, labels_used=project.labels_used)
    return asks_of(session, [query.id])[0]


def _replayed(known: Annotation, given: Answer) -> Answered:
    if (known.user_id, known.query_id) != (given.user_id, given.query_id):
        raise Conflict("client_id", "another answer has it", "make a new one for every answer")
    late = LeaseLost("answer", "it came after its image had passed on; it was kept, not counted", "go on with the next")
    return Answered(known.id, replay=True, refusal=None if known.counted else late)


def _check_class(session: Session, given: Answer) -> None:
    if given.seconds_taken is not None and not given.seconds_taken >= 0:
        raise BadInput("seconds_taken", f"{given.seconds_taken} runs backwards", "send zero or more")
    if given.outcome is not Outcome.LABEL:
        if given.class_id is not None:
            raise BadInput("class_id", f"{given.outcome.value!r} names no class", "leave it out")
        return
    known = given.class_id is not None and session.scalar(
        select(Class.id).where(
            Class.id == given.class_id, Class.project_id == given.project_id, Class.retired_at.is_(None)
        )
    )
    if not known:
        raise BadInput(
            f"class {given.class_id}", "this project has no such class", "reload the page and choose another"
        )


def _refusal(session: Session, project: Project, query: Query, given: Answer) -> QuerentError | None:
    """Say why an answer cannot count; otherwise make sure that the query has a place for it."""
    before = select(Annotation.id).where(
        Annotation.image_id == query.image_id, Annotation.user_id == given.user_id, *standing()
    )
    if session.scalar(before.limit(1)):
        return LeaseLost("answer", "you have answered this image already", "undo that answer first to change it")
    lease = session.scalar(select(Lease.id).where(Lease.query_id == query.id, Lease.user_id == given.user_id))
    if query.closed_at is not None or (lease is None and not query.open_answers):
        return LeaseLost(
            "answer", "its image has passed to somebody else; it was kept, not counted", "go on with the next image"
        )
    if given.outcome is Outcome.LABEL and project.labels_used >= project.budget:
        return BudgetSpent(
            "budget",
            f"all {project.budget} labels are given; the answer was kept, not counted",
            "ask an admin for more",
        )
    return None


def _lease(session: Session, query: Query, user_id: int, lease_seconds: float) -> Lease:
    expires_at = now(session, timedelta(seconds=lease_seconds))
    return Lease(project_id=query.project_id, query_id=query.id, user_id=user_id, expires_at=expires_at)
