"""A person's own answers, newest first: what the labeling page goes back through and corrects."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.records import Annotation, Class, Outcome, UnusableReason
from app.services.claiming import Ask, asks_of
from app.services.labeling import own_standing

PAGE_SIZE = 20


@dataclass(frozen=True)
class OwnAnswer:
    """An answer that stands, with the query it was given to; ``class_name`` also of a class that was retired since."""

    annotation_id: int
    client_id: UUID
    ask: Ask
    outcome: Outcome
    class_id: int | None
    class_name: str | None
    reason: UnusableReason | None


@dataclass(frozen=True)
class OwnAnswers:
    """One page of answers; ``next_before`` is the annotation to go on from, if there are more."""

    answers: tuple[OwnAnswer, ...]
    next_before: int | None


def own_answers(session: Session, project_id: int, user_id: int, before: int | None = None) -> OwnAnswers:
    """Return a page of a person's standing answers in a project, those given before the annotation ``before``."""
    wanted = (
        select(Annotation, Class.name)
        .join(Class, Class.id == Annotation.class_id, isouter=True)
        .where(Annotation.project_id == project_id, Annotation.user_id == user_id, *own_standing())
        .order_by(Annotation.id.desc())
        .limit(PAGE_SIZE + 1)
    )
    if before is not None:
        wanted = wanted.where(Annotation.id < before)
    found = session.execute(wanted).all()
    shown = found[:PAGE_SIZE]
    asks = {ask.query_id: ask for ask in asks_of(session, [given.query_id for given, _ in shown])}
    answers = tuple(
        OwnAnswer(
            annotation_id=given.id,
            client_id=given.client_id,
            ask=asks[given.query_id],
            outcome=given.outcome,
            class_id=given.class_id,
            class_name=class_name,
            reason=given.reason,
        )
        for given, class_name in shown
    )
    return OwnAnswers(answers, answers[-1].annotation_id if len(found) > PAGE_SIZE else None)
