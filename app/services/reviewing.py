"""Reviewing: an admin decides where people disagreed, or somebody was unsure.

A decision is an annotation of the admin to a query of its own (source ``review``). It settles the label above all other
answers and is not paid from the budget, since the image's answers were; the network learns from it like from any label.
"""

from __future__ import annotations

from uuid import uuid4

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.errors import AnswerGone, Conflict, NotFound
from app.outbox import EventKind, announce
from app.records import CHECKS, Annotation, Image, Lease, Outcome, Query, QuerySource
from app.services import labeling, rounds
from app.services.clock import now
from app.services.labeling import Answer, Answered
from app.services.locks import lock_project, lock_query
from app.services.queue import settle, standing


def decide(
    session: Session, project_id: int, image_id: int, user_id: int, *, outcome: Outcome, class_id: int | None = None
) -> Answered:
    """Let a reviewer say what an image is, or that it is unusable.

    Raises:
        NotFound: the project has no such image.
        Conflict: the image does not wait for a review any more, or people are being asked about it again.
        BadInput: the class is unknown, or the outcome does not fit a class.
        ClassRetired: the class is not given any more.
    """
    lock_project(session, project_id)
    image = session.scalar(select(Image).where(Image.id == image_id, Image.project_id == project_id))
    if image is None:
        raise NotFound(f"image {image_id}", "the project has no such image", "reload the page")
    if image.review_reason is None:
        raise Conflict("this image", "it does not wait for a review any more", "reload the page and go on")
    query = _ask(session, image, user_id)
    answered = labeling.answer(session, Answer(uuid4(), project_id, query.id, user_id, outcome, class_id))
    if answered.refusal is not None:
        raise answered.refusal
    return answered


def take_back(session: Session, project_id: int, user_id: int) -> int:
    """Take back a reviewer's latest decision that stands; return the image, which waits again.

    Raises:
        AnswerGone: there is none.
    """
    project = lock_project(session, project_id)
    latest = session.scalar(
        select(Annotation)
        .join(Query, Query.id == Annotation.query_id)
        .where(Annotation.project_id == project_id, Annotation.user_id == user_id, *standing())
        .where(Query.source == QuerySource.REVIEW)
        .order_by(Annotation.id.desc())
        .limit(1)
    )
    if latest is None:
        raise AnswerGone("undo", "you have no decision to take back here", "decide about some images first")
    query = lock_query(session, project_id, latest.query_id)
    latest.revoked_at = now(session)
    settle(session, query)
    announce(session, project_id, EventKind.LABELS, labels_used=project.labels_used)
    rounds.request_if_due(session, project)
    return latest.image_id


def row_of(session: Session, image_id: int) -> int:
    """Return where an image stands in its project."""
    return session.get_one(Image, image_id).row


def _ask(session: Session, image: Image, user_id: int) -> Query:
    """Ask the reviewer, and nobody else: the query is superseded from the start and held by them."""
    asked = (Query.image_id == image.id, Query.source.not_in(CHECKS))
    if session.scalar(select(Query.id).where(*asked, Query.closed_at.is_(None)).limit(1)):
        raise Conflict("this image", "people are being asked about it again", "wait for their answers")
    round_id = session.scalars(select(Query.round_id).where(*asked).order_by(Query.id.desc()).limit(1)).one()
    rank = session.scalar(select(func.max(Query.rank)).where(Query.round_id == round_id)) or 0
    query = Query(
        project_id=image.project_id,
        round_id=round_id,
        image_id=image.id,
        rank=rank + 1,
        source=QuerySource.REVIEW,
        reserve=True,
        parts={},
        wanted_answers=1,
        open_answers=0,
        superseded_at=now(session),
    )
    session.add(query)
    session.flush()
    # let go by the answer within this transaction
    expires_at = now(session)
    session.add(Lease(project_id=image.project_id, query_id=query.id, user_id=user_id, expires_at=expires_at))
    return query
