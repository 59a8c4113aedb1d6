"""Auditing: an admin looks through the ledger and says what an image really is.

What is said is an ordinary answer to a query of its own (source ``audit``), so it counts like any other: it is in the
budget, it wins over the ledger, the network learns from it, and it can be taken back. Because the admin picked the
image and saw what the model had said, it is no part of a fair sample.
"""

from __future__ import annotations

from uuid import uuid4

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.errors import BudgetSpent, Conflict, NotFound
from app.records import CHECKS, Annotation, Lease, Model, Outcome, Project, PseudoLabel, Query, QuerySource
from app.services import labeling
from app.services.clock import now
from app.services.labeling import Answer, Answered
from app.services.locks import lock_project
from app.services.queue import standing


def correct(
    session: Session, project_id: int, entry_id: int, user_id: int, *, outcome: Outcome, class_id: int | None = None
) -> Answered:
    """Let a person decide about the image of an entry that stands.

    Raises:
        NotFound: the project has no such entry.
        Conflict: the entry does not stand any more, or people are being asked about its image.
        BudgetSpent: a class is given and no label is left.
        BadInput: the class is unknown or retired, or the outcome does not fit a class.
        LeaseLost: the person has answered this image before.
    """
    project = lock_project(session, project_id)
    entry = _standing_entry(session, project, entry_id)
    if outcome is Outcome.LABEL and project.labels_used >= project.budget:
        reason = f"all {project.budget} labels are given, and a correction is one"
        raise BudgetSpent("budget", reason, "raise the budget on the project's page first")
    query = _free_query(session, entry.image_id, user_id) or _ask(session, project, entry)
    answered = labeling.answer(session, Answer(uuid4(), project.id, query.id, user_id, outcome, class_id))
    if answered.refusal is not None:
        raise answered.refusal
    return answered


def _standing_entry(session: Session, project: Project, entry_id: int) -> PseudoLabel:
    entry = session.scalar(select(PseudoLabel).where(PseudoLabel.id == entry_id, PseudoLabel.project_id == project.id))
    if entry is None:
        raise NotFound(f"entry {entry_id}", "the ledger has no such entry", "choose one from the list")
    if entry.superseded_at is not None:
        raise Conflict("this label", f"it does not stand any more: {entry.superseded_reason}", "reload the page")
    return entry


def _free_query(session: Session, image_id: int, user_id: int) -> Query | None:
    """Return an audit of the image that was taken back; end another open query, unless people are answering it."""
    open_ones = (Query.image_id == image_id, Query.closed_at.is_(None), Query.source.not_in(CHECKS))
    found = session.scalar(select(Query).where(*open_ones).with_for_update())
    if found is None:
        return None
    held = select(Lease.id).where(Lease.query_id == found.id, Lease.user_id != user_id)
    answered = select(Annotation.id).where(Annotation.query_id == found.id, *standing())
    if session.scalar(held.limit(1)) or session.scalar(answered.limit(1)):
        raise Conflict("this image", "people are being asked about it right now", "wait for their answer")
    if found.source is QuerySource.AUDIT:
        return found
    session.execute(delete(Lease).where(Lease.query_id == found.id))
    found.superseded_at = found.closed_at = now(session)
    found.open_answers = 0
    session.flush()
    return None


def _ask(session: Session, project: Project, entry: PseudoLabel) -> Query:
    """Ask about an entry beyond the batch of the round whose model wrote it."""
    round_id = session.scalars(select(Model.round_id).where(Model.id == entry.model_id)).one()
    last = session.scalar(select(func.max(Query.rank)).where(Query.round_id == round_id)) or 0
    query = Query(
        project_id=project.id,
        round_id=round_id,
        image_id=entry.image_id,
        rank=last + 1,
        source=QuerySource.AUDIT,
        reserve=True,
        parts={},
        wanted_answers=1,
        open_answers=1,
    )
    session.add(query)
    session.flush()
    return query
