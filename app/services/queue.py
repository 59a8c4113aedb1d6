"""The queue's bookkeeping: what a query still wants, and the label that its answers amount to.

Whoever calls holds the project's row (see ``app.services.locks``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select, update
from sqlalchemy.orm import Session

from app.records import Annotation, Image, Lease, Outcome, PseudoLabel, Query, QuerySource
from app.records.ledger import HUMAN_LABEL, UNSURE, UNUSABLE
from app.services.clock import now
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


def settle(session: Session, query: Query) -> None:
    """Recompute what a locked query still wants from its answers and leases, and its image's label.

    A query is closed when it has its answers, when somebody found the image unusable, or when it is superseded and
    nobody holds it. Leases that are left on a closed query are ended. One that lacks an answer again, because somebody
    took theirs back, stays closed while a later query asks about its image.
    """
    session.flush()
    of_image = session.execute(
        select(Annotation.query_id, Annotation.outcome).where(Annotation.image_id == query.image_id, *standing())
    ).all()
    answers = Counter(outcome for query_id, outcome in of_image if query_id == query.id)
    unusable = any(outcome is Outcome.UNUSABLE for _, outcome in of_image)
    given = answers[Outcome.LABEL] + answers[Outcome.UNSURE]
    held = session.scalar(select(func.count()).where(Lease.query_id == query.id)) or 0
    open_answers = max(0, query.wanted_answers - given - held)
    answered = given >= query.wanted_answers or unusable
    elsewhere = query.closed_at is not None and open_elsewhere(session, query) is not None
    if answered or elsewhere or (query.superseded_at is not None and not held):
        query.open_answers = 0
        query.closed_at = query.closed_at or now(session)
        session.execute(delete(Lease).where(Lease.query_id == query.id))
    else:
        query.closed_at = None
        query.open_answers = 0 if query.superseded_at is not None else open_answers
    unsure = any(outcome is Outcome.UNSURE for _, outcome in of_image)
    settled = query.closed_at is not None and not elsewhere
    _resolve(session, query, unusable=unusable, unsure=unsure, settled=settled)
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


def _resolve(session: Session, query: Query, *, unusable: bool, unsure: bool, settled: bool) -> None:
    """Write the image's label once nobody is asked about it: the class most people gave, the earliest among equals.

    Whatever people decided ends the label that a model gave; taking it back leaves the image to the next round.
    """
    image = session.get(Image, query.image_id, with_for_update={"key_share": True}, populate_existing=True)
    if image is None:
        raise RuntimeError(f"query {query.id} asks about an image that is gone")
    given = session.scalars(
        select(Annotation.class_id)
        .where(Annotation.image_id == image.id, Annotation.outcome == Outcome.LABEL, *standing())
        .order_by(Annotation.id)
    ).all()
    label = Counter(given).most_common(1)[0][0] if given and settled else None
    decided = HUMAN_LABEL if label is not None else UNUSABLE if unusable else UNSURE if unsure else None
    if decided is not None:
        session.execute(
            update(PseudoLabel)
            .where(PseudoLabel.image_id == image.id, PseudoLabel.superseded_at.is_(None))
            .values(superseded_at=func.now(), superseded_reason=decided)
        )
    image.label_class_id, image.has_human_label = label, label is not None
    if unusable:
        image.unusable_at = image.unusable_at or now(session)
    else:
        image.unusable_at = None
