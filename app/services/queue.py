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
    BindParameter,
    ColumnElement,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session, aliased

from app.records import CHECKS, Annotation, Image, Lease, Outcome, PseudoLabel, Query, QuerySource
from app.records.ledger import DISAGREED, HUMAN_LABEL, UNSURE, UNUSABLE
from app.services.clock import now
from app.services.locks import lock_query
from app.services.resolving import Resolution, Said, resolve, write_label


def standing() -> tuple[ColumnElement[bool], ...]:
    """Return the conditions under which an annotation counts."""
    return Annotation.revoked_at.is_(None), Annotation.counted.is_(True)


def awaits_review() -> ColumnElement[bool]:
    """Return the condition that a reviewer is to decide about an image: people disagreed, or somebody was unsure."""
    unsure = exists().where(Annotation.image_id == Image.id, Annotation.outcome == Outcome.UNSURE, *standing())
    return or_(Image.review_reason.is_not(None), unsure)


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


def other_open_query(image_id: BindParameter[int], query_id: BindParameter[int]) -> Select[int]:
    """Return another query about the same image that is not closed; there is at most one."""
    open_ones = Query.closed_at.is_(None), Query.source.not_in(CHECKS)
    return select(Query.id).where(Query.image_id == image_id, *open_ones, Query.id != query_id)


def open_elsewhere(session: Session, query: Query) -> int | None:
    """Return the id of another query about the same image that is not closed."""
    return session.scalar(_open_statement(), {"image": query.image_id, "query": query.id})


def stands(query: Query) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions under which an annotation stands as an answer to this query, counted or a check's."""
    if query.source in CHECKS:
        return Annotation.revoked_at.is_(None), Annotation.is_check.is_(True)
    return standing()


def is_reviewed(session: Session, image_id: int) -> bool:
    """Say whether a reviewer has decided about an image."""
    decided = (
        select(Annotation.id)
        .join(Query, Query.id == Annotation.query_id)
        .where(Annotation.image_id == image_id, Query.source == QuerySource.REVIEW, *standing())
    )
    return session.scalar(decided.limit(1)) is not None


@dataclass(frozen=True)
class Found:
    """What a query's state follows from, read in one statement.

    Attributes:
        image: what the query asks about, locked.
        held: leases on the query.
        has_entry: a label that a model gave to its image stands.
        at: the time by the database's clock.
        answers: query and content of each answer to its image that stands, in their order.
    """

    image: Image
    held: int
    has_entry: bool
    at: datetime
    answers: list[tuple[int, Said]]


def settle(session: Session, query: Query) -> None:
    """Recompute what a locked query still wants from its answers and leases, and its image's label; write both."""
    session.flush()
    settle_by(session, query, look_up(session, query))
    session.flush()


def settle_by(session: Session, query: Query, found: Found) -> None:
    """Give a locked query and its image the state that follows from what was found; the caller writes them.

    A query is closed when it has its answers, when somebody found the image unusable, when a reviewer decided, or when
    it is superseded and nobody holds it. Leases that are left on a closed query are ended. One that lacks an answer
    again, because somebody took theirs back, stays closed while a later query asks about its image. A check leaves its
    image as it is.
    """
    if query.source in CHECKS:  # nobody else is asked
        query.closed_at = None if found.held else query.closed_at or found.at
        return
    said = [one for _, one in found.answers]
    answers = Counter(one.outcome for query_id, one in found.answers if query_id == query.id)
    given = answers[Outcome.LABEL] + answers[Outcome.UNSURE]
    open_answers = max(0, query.wanted_answers - given - found.held)
    answered = given >= query.wanted_answers or any(one.ends_asking for one in said)
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
    _resolve(session, found, said, settled=settled)


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


def look_up(session: Session, query: Query) -> Found:
    """Lock a query's image and return what the state of both follows from."""
    rows = session.execute(_found_statement(), {"query": query.id}).all()
    image, held_now, entry_stands, at = rows[0][:4]  # there is one row without an annotation if there is none
    answers = [
        (query_id, Said(outcome, class_id, source is QuerySource.REVIEW))
        for _, _, _, _, query_id, outcome, class_id, source in rows
        if query_id is not None
    ]
    return Found(image, held_now, entry_stands, at, answers)


@cache
def _found_statement() -> Select[Any]:
    held = select(func.count()).where(Lease.query_id == Query.id).scalar_subquery()
    has_entry = exists().where(PseudoLabel.image_id == Query.image_id, PseudoLabel.superseded_at.is_(None))
    asked, one = aliased(Query), Annotation
    return (
        select(Image, held, has_entry, func.now(), one.query_id, one.outcome, one.class_id, asked.source)
        .join(Query, Query.image_id == Image.id)
        .outerjoin(Annotation, and_(Annotation.image_id == Query.image_id, *standing()))
        .outerjoin(asked, asked.id == Annotation.query_id)
        .where(Query.id == bindparam("query", type_=BigInteger))
        .order_by(Annotation.id)
        .with_for_update(key_share=True, of=Image)
        .execution_options(populate_existing=True)
    )


@cache
def _open_statement() -> Select[int]:
    return other_open_query(bindparam("image", type_=BigInteger), bindparam("query", type_=BigInteger))


def _resolve(session: Session, found: Found, said: Sequence[Said], *, settled: bool) -> None:
    """Write the image's label once nobody is asked about it.

    Whatever people decided ends the label that a model gave; taking it back leaves the image to the next round.
    """
    image = found.image
    resolved = resolve(said) if settled else Resolution()
    unusable = any(one.outcome is Outcome.UNUSABLE for one in said)
    decided = _decided(said, resolved, unusable=unusable) if found.has_entry else None
    if decided is not None:
        session.execute(
            update(PseudoLabel)
            .where(PseudoLabel.image_id == image.id, PseudoLabel.superseded_at.is_(None))
            .values(superseded_at=func.now(), superseded_reason=decided)
        )
    write_label(session, image, resolved)
    if unusable:
        image.unusable_at = image.unusable_at or now(session)
    else:
        image.unusable_at = None


def _decided(said: Sequence[Said], resolved: Resolution, *, unusable: bool) -> str | None:
    """Say for what reason the label of a model ends, if it does."""
    if resolved.class_id is not None:
        return HUMAN_LABEL
    if unusable:
        return UNUSABLE
    if any(one.outcome is Outcome.UNSURE for one in said):
        return UNSURE
    return DISAGREED if resolved.review_reason is not None else None
