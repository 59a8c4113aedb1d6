"""The queue's bookkeeping: what a query still wants, and the label that its answers amount to.

Whoever calls holds the project's row (see ``app.services.locks``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    func,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from app.records import Annotation, Image, Lease, Outcome, PseudoLabel, Query, QuerySource
from app.records.ledger import HUMAN_LABEL, UNSURE, UNUSABLE
from app.services.locks import lock_query


def standing() -> tuple[ColumnElement[bool], ...]:
    """Return the conditions under which an annotation counts."""
    return Annotation.revoked_at.is_(None), Annotation.counted.is_(True)


def awaits_review() -> ColumnElement[bool]:
    """Return the condition that somebody was unsure about an image."""
    return exists().where(Annotation.image_id == Image.id, Annotation.outcome == Outcome.UNSURE, *standing())


def drawn_by_chance() -> ColumnElement[bool]:
    """Return the condition that a query asks about a uniform draw from the pool.

    That is the random share of each round and of the seed set, or the whole seed set if the cold start draws it; the
    query says so itself. What an admin picks from the ledger is no fair sample: the label of the model was seen, and
    all of it comes from where a model is sure.
    """
    drawn_seed = and_(
        Query.source == QuerySource.SEED, Query.parts["acquisition"].as_string().is_not_distinct_from("random")
    )
    return or_(Query.source == QuerySource.RANDOM, drawn_seed)


def open_elsewhere(session: Session, query: Query) -> int | None:
    """Return another query about the same image that is not closed; there is at most one."""
    other = select(Query.id).where(Query.image_id == query.image_id, Query.closed_at.is_(None), Query.id != query.id)
    return session.scalar(other)


@dataclass(frozen=True)
class _Found:
    """What a query's state follows from, read in one statement.

    Attributes:
        held: leases on the query.
        has_entry: a label that a model gave to its image stands.
        at: the time by the database's clock.
        answers: query, outcome and class of each answer to its image that stands, in their order.
    """

    held: int
    has_entry: bool
    at: datetime
    answers: list[tuple[int, Outcome, int | None]]


def settle(session: Session, query: Query) -> None:
    """Recompute what a locked query still wants from its answers and leases, and its image's label.

    A query is closed when it has its answers, when somebody found the image unusable, or when it is superseded and
    nobody holds it. Leases that are left on a closed query are ended. One that lacks an answer again, because somebody
    took theirs back, stays closed while a later query asks about its image.
    """
    session.flush()
    found = _look_up(session, query)
    answers = Counter(outcome for query_id, outcome, _ in found.answers if query_id == query.id)
    outcomes = {outcome for _, outcome, _ in found.answers}
    unusable = Outcome.UNUSABLE in outcomes
    given = answers[Outcome.LABEL] + answers[Outcome.UNSURE]
    open_answers = max(0, query.wanted_answers - given - found.held)
    answered = given >= query.wanted_answers or unusable
    elsewhere = query.closed_at is not None and open_elsewhere(session, query) is not None
    if answered or elsewhere or (query.superseded_at is not None and not found.held):
        query.open_answers = 0
        query.closed_at = query.closed_at or found.at
        if found.held:
            session.execute(delete(Lease).where(Lease.query_id == query.id))
    else:
        query.closed_at = None
        query.open_answers = 0 if query.superseded_at is not None else open_answers
    settled = query.closed_at is not None and not elsewhere
    labels = [class_id for _, outcome, class_id in found.answers if outcome is Outcome.LABEL] if settled else []
    label = Counter(labels).most_common(1)[0][0] if labels else None  # the earliest among equals
    if found.has_entry:
        _end_entry(session, query.image_id, label, unusable=unusable, unsure=Outcome.UNSURE in outcomes)
    _write_label(session, query.image_id, label, unusable=unusable)
    session.flush()


def return_leases(session: Session, project_id: int, lease_ids: Sequence[int]) -> None:
    """End leases and let others take their queries."""
    ended = session.scalars(delete(Lease).where(Lease.id.in_(lease_ids)).returning(Lease.query_id)).all()
    for query_id in sorted(set(ended)):
        settle(session, lock_query(session, project_id, query_id))


def supersede(session: Session, project_id: int) -> None:
    """Stop asking the open queries of earlier rounds, since a new ranking takes their place.

    What a person holds stays with them, and what somebody skipped stays open for the others.
    """
    skipped = exists().where(Annotation.image_id == Query.image_id, Annotation.outcome == Outcome.SKIP, *standing())
    replaced = session.scalars(
        update(Query)
        .where(Query.project_id == project_id, Query.closed_at.is_(None), Query.superseded_at.is_(None), ~skipped)
        .values(superseded_at=func.now(), open_answers=0)
        .returning(Query.id)
        .execution_options(synchronize_session=False)
    ).all()
    held = exists().where(Lease.query_id == Query.id)
    session.execute(
        update(Query)
        .where(Query.id.in_(replaced), ~held)
        .values(closed_at=func.now())
        .execution_options(synchronize_session=False)
    )
    session.expire_all()


def _look_up(session: Session, query: Query) -> _Found:
    rows = session.execute(_found_statement(), {"query": query.id}).all()
    held_now, entry_stands, at = rows[0][:3]  # there is one row without an annotation if there is none
    return _Found(held_now, entry_stands, at, [(row[3], row[4], row[5]) for row in rows if row[3] is not None])


@cache
def _found_statement() -> Select[Any]:
    held = select(func.count()).where(Lease.query_id == Query.id).scalar_subquery()
    has_entry = exists().where(PseudoLabel.image_id == Query.image_id, PseudoLabel.superseded_at.is_(None))
    return (
        select(held, has_entry, func.now(), Annotation.query_id, Annotation.outcome, Annotation.class_id)
        .select_from(Query)
        .outerjoin(Annotation, and_(Annotation.image_id == Query.image_id, *standing()))
        .where(Query.id == bindparam("query", type_=BigInteger))
        .order_by(Annotation.id)
    )


def _end_entry(session: Session, image_id: int, label: int | None, *, unusable: bool, unsure: bool) -> None:
    """End the label that a model gave once people decided anything; taking that back leaves it to the next round."""
    decided = HUMAN_LABEL if label is not None else UNUSABLE if unusable else UNSURE if unsure else None
    if decided is not None:
        session.execute(
            update(PseudoLabel)
            .where(PseudoLabel.image_id == image_id, PseudoLabel.superseded_at.is_(None))
            .values(superseded_at=func.now(), superseded_reason=decided)
        )


def _write_label(session: Session, image_id: int, label: int | None, *, unusable: bool) -> None:
    """Write what people decided about an image, unless it stands there already."""
    unusable_at = func.coalesce(Image.unusable_at, func.now()) if unusable else null()
    differs = Image.label_class_id.is_distinct_from(label) | Image.unusable_at.is_distinct_from(unusable_at)
    session.execute(
        update(Image)
        .where(Image.id == image_id, differs)
        .values(label_class_id=label, has_human_label=label is not None, unusable_at=unusable_at)
    )
