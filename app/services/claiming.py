"""Claiming: people and the simulated oracle take queries, hold them for a while, and let them go.

One person never holds a query twice, no query is held by more people than it wants answers, and the order is the
ranking's. A claim is one statement whose WHERE tests the very column that it changes; ``SKIP LOCKED`` alone would hand
one image to two people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    SQLColumnExpression,
    case,
    exists,
    func,
    insert,
    literal,
    select,
    union_all,
    update,
)
from sqlalchemy.orm import Session

from app.errors import BadInput
from app.records import CHECKS, Annotation, Image, Lease, Project, ProjectState, Query, QuerySource, Round
from app.services import checks, members, projects, rounds
from app.services.checks import SHOWN_AS_RESERVE, Beside
from app.services.locks import lock_claims, lock_project
from app.services.queue import return_leases, standing

RESERVE_AHEAD = 2  # reserve queries handed out before the batch is answered: enough to hide one request
NEARLY_SPENT = 200  # labels left below which claims take turns, so that together they cannot pass the budget
MOST_AT_ONCE = 1000
SUREST_FIRST = (Query.confidence.desc(), Query.id)


@dataclass(frozen=True)
class Ask:
    """A query as it is shown to whoever holds it; nothing in it hints at the answer. No page tells the source."""

    query_id: int
    image_id: int
    width: int
    height: int
    round_number: int
    rank: int
    reserve: bool
    source: QuerySource


def claim(
    session: Session,
    project_id: int,
    user_id: int,
    count: int,
    lease_seconds: float,
    *,
    reserves: bool = True,
    orphans_after: float = 0.5,
) -> list[Ask]:
    """Take up to ``count`` queries for one person, in the ranking's order.

    First come the person's own leases that nothing has renewed for ``orphans_after`` of their time: those of a page
    that crashed. Expired leases of others are returned when there is too little else.

    Args:
        reserves: whether queries beyond the batch may be taken while it is not answered yet.
    Raises:
        NotFound: there is no such project, or the person never was a member of it.
        NotAMember: not any more.
        BadInput: ``count`` is out of bounds.
    """
    if not 1 <= count <= MOST_AT_ONCE:
        raise BadInput("count", f"{count} is out of bounds", f"ask for 1 to {MOST_AT_ONCE} queries")
    take_turns(session, project_id, user_id)
    project = projects.get(session, project_id)
    if project.state is not ProjectState.RUNNING:
        return []
    taken = _take_orphans(session, project_id, user_id, count, lease_seconds=lease_seconds, orphans_after=orphans_after)
    room = min(count - len(taken), _labels_left(session, project))
    wanted = checks.draw(session, project, user_id, room)
    ahead = _reserves_ahead(session, project_id, user_id, room) if reserves else 0
    ranked = _take(session, project_id, user_id, room - wanted.total, lease_seconds, reserves=ahead)
    if wanted.total:
        if beside := _places(session, project_id, user_id, ranked, reserves=ahead):
            ranked += checks.take(session, project, user_id, wanted, beside=beside, lease_seconds=lease_seconds)
        ahead = _reserves_ahead(session, project_id, user_id, room) if reserves else 0
        ranked += _take(session, project_id, user_id, room - len(ranked), lease_seconds, reserves=ahead)
    taken += ranked
    if len(taken) < count and return_expired(session, project_id):
        taken += _take(session, project_id, user_id, min(room, count - len(taken)), lease_seconds)
    return asks_of(session, taken)


def claim_predicted(
    session: Session, project_id: int, user_id: int, class_id: int, count: int, *, lease_seconds: float
) -> list[Ask]:
    """Take up to ``count`` queries about images that the network believes to be of one class, the surest first.

    All of the batch come before those beyond it, which fill the page up whether or not the batch is answered. It is
    for the caller to take turns and to see that people may be shown what the network believes.
    """
    project = projects.get(session, project_id)
    if project.state is not ProjectState.RUNNING:
        return []
    room = min(count, _labels_left(session, project))
    taken = _take(session, project_id, user_id, room, lease_seconds, reserves=room, class_id=class_id)
    return asks_of(session, taken, SUREST_FIRST)


def take_turns(session: Session, project_id: int, user_id: int) -> None:
    """Let one person's claims take turns, so that two of their pages never take the same query.

    Raises:
        NotFound: there is no such project, or the person never was a member of it.
        NotAMember: not any more.
    """
    lock_claims(session, project_id, user_id)
    members.check(session, project_id, user_id)


def return_orphans(
    session: Session, project_id: int, user_id: int, lease_seconds: float, orphans_after: float = 0.5
) -> int:
    """Give back a person's own leases that nothing has renewed for ``orphans_after`` of their time; return how many."""
    left = timedelta(seconds=lease_seconds * (1.0 - orphans_after))
    orphans = select(Lease.id).where(
        Lease.project_id == project_id, Lease.user_id == user_id, Lease.expires_at <= func.now() + left
    )
    if session.scalar(orphans.limit(1)) is None:
        return 0
    lock_project(session, project_id)
    leases = session.scalars(orphans.order_by(Lease.id)).all()
    return_leases(session, project_id, leases)
    return len(leases)


def renew(session: Session, project_id: int, user_id: int, query_ids: Sequence[int], lease_seconds: float) -> list[int]:
    """Hold queries for longer; return those that the person still holds."""
    held = update(Lease).where(Lease.project_id == project_id, Lease.user_id == user_id, Lease.query_id.in_(query_ids))
    renewed = held.values(expires_at=func.now() + timedelta(seconds=lease_seconds)).returning(Lease.query_id)
    return sorted(session.scalars(renewed).all())


def release(session: Session, project_id: int, user_id: int, query_ids: Sequence[int] | None = None) -> int:
    """Give queries back (all of the person's when none are named); return how many were held."""
    lock_project(session, project_id)
    held = select(Lease.id).where(Lease.project_id == project_id, Lease.user_id == user_id)
    if query_ids is not None:
        held = held.where(Lease.query_id.in_(query_ids))
    leases = session.scalars(held.order_by(Lease.id)).all()
    return_leases(session, project_id, leases)
    return len(leases)


def return_expired(session: Session, project_id: int) -> int:
    """Give back the queries whose leases have run out by the database's clock; return how many."""
    expired = select(Lease.id).where(Lease.project_id == project_id, Lease.expires_at < func.now())
    if session.scalar(expired.limit(1)) is None:
        return 0
    lock_project(session, project_id)
    leases = session.scalars(expired.order_by(Lease.id)).all()
    return_leases(session, project_id, leases)
    return len(leases)


def asks_of(session: Session, query_ids: Sequence[int], order: Sequence[SQLColumnExpression[Any]] = ()) -> list[Ask]:
    """Return queries as they are shown to whoever holds them, in the ranking's order unless another is given."""
    if not query_ids:
        return []
    as_reserve = case((Query.source.in_(CHECKS), Query.parts[SHOWN_AS_RESERVE].as_boolean()), else_=Query.reserve)
    rows = session.execute(
        select(Query.id, Query.image_id, Image.width, Image.height, Round.number, Query.rank, as_reserve, Query.source)
        .join(Image, Image.id == Query.image_id)
        .join(Round, Round.id == Query.round_id)
        .where(Query.id.in_(query_ids))
        .order_by(*(order or (as_reserve, Query.rank, Query.id)))
    )
    return [Ask(*row) for row in rows]


def takeable(project_id: int, user_id: int) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions under which a person may take a query: it wants answers, and none of theirs."""
    held = exists().where(Lease.query_id == Query.id, Lease.user_id == user_id)
    seen = exists().where(Annotation.image_id == Query.image_id, Annotation.user_id == user_id, *standing())
    return Query.project_id == project_id, Query.open_answers > 0, ~held, ~seen


def pickable(
    project_id: int, user_id: int, *, reserve: bool, class_id: int | None = None, lock: bool = True
) -> Select[int]:
    """Return the queries that a person may take, locked unless they are only looked at.

    They come in the ranking's order, or those of a class with the surest first.
    """
    is_of_class = () if class_id is None else (Query.predicted_class_id == class_id,)
    found = (
        select(Query.id)
        .where(*takeable(project_id, user_id), Query.reserve.is_(reserve), *is_of_class)
        .order_by(*((Query.rank, Query.id) if class_id is None else SUREST_FIRST))
    )
    return found.with_for_update(skip_locked=True, key_share=True) if lock else found


def _take(
    session: Session,
    project_id: int,
    user_id: int,
    count: int,
    lease_seconds: float,
    *,
    reserves: int = 0,
    class_id: int | None = None,
) -> list[int]:
    """Lease up to ``count`` queries, of one predicted class if it is given, at most ``reserves`` beyond the batch.

    It is one statement, so it sees one ranking: in two, a round that ends between them would hand out the new reserve
    before the new batch.
    """
    if count <= 0:
        return []
    batch = pickable(project_id, user_id, reserve=False, class_id=class_id).limit(count).cte("batch")
    taken = select(func.count()).select_from(batch).scalar_subquery()
    spare = pickable(project_id, user_id, reserve=True, class_id=class_id)
    beyond = spare.limit(func.least(reserves, count - taken)).cte("beyond")
    lowered = (
        update(Query)
        .where(Query.id.in_(union_all(select(batch.c.id), select(beyond.c.id))))
        .values(open_answers=Query.open_answers - 1)
        .returning(Query.id, Query.reserve, Query.rank)
        .cte("lowered")
    )
    leased = (
        insert(Lease)
        .from_select(
            ["project_id", "query_id", "user_id", "expires_at"],
            select(
                literal(project_id),
                lowered.c.id,
                literal(user_id),
                func.now() + timedelta(seconds=lease_seconds),
            ).order_by(lowered.c.reserve, lowered.c.rank, lowered.c.id),
        )
        .returning(Lease.query_id)
    )
    return list(session.scalars(leased, execution_options={"synchronize_session": False}).all())


def _take_orphans(
    session: Session, project_id: int, user_id: int, count: int, *, lease_seconds: float, orphans_after: float
) -> list[int]:
    left = timedelta(seconds=lease_seconds * (1.0 - orphans_after))
    orphans = (
        select(Lease.id)
        .where(Lease.project_id == project_id, Lease.user_id == user_id, Lease.expires_at <= func.now() + left)
        .order_by(Lease.id)
        .limit(count)
        .with_for_update(skip_locked=True)
    )
    renewed = (
        update(Lease)
        .where(Lease.id.in_(orphans.scalar_subquery()))
        .values(expires_at=func.now() + timedelta(seconds=lease_seconds))
        .returning(Lease.query_id)
        .execution_options(synchronize_session=False)
    )
    return list(session.scalars(renewed).all())


def _labels_left(session: Session, project: Project) -> int:
    """How many more queries may be handed out before their answers would pass the budget."""
    if project.budget - project.labels_used < NEARLY_SPENT:
        project = lock_project(session, project.id)
    held = session.scalar(select(func.count()).where(Lease.project_id == project.id, ~Lease.is_check)) or 0
    return max(0, project.budget - project.labels_used - held)


def _places(session: Session, project_id: int, user_id: int, taken: Sequence[int], *, reserves: int) -> list[Beside]:
    """Return where checks may stand: beside the queries just taken, or beside the next one that there is."""
    places = select(Query.round_id, Query.rank, Query.reserve)
    if taken:
        places = places.where(Query.id.in_(taken)).order_by(Query.id)
    else:
        free = [pickable(project_id, user_id, reserve=False, lock=False)]
        free += [pickable(project_id, user_id, reserve=True, lock=False)] if reserves else []
        following = next((found for one in free if (found := session.scalar(one.limit(1))) is not None), None)
        places = places.where(Query.id == following)
    return [Beside(*row) for row in session.execute(places)]


def _reserves_ahead(session: Session, project_id: int, user_id: int, room: int) -> int:
    if room <= 0:
        return 0
    return room if rounds.is_open(session, project_id) else _reserve_room(session, project_id, user_id)


def _reserve_room(session: Session, project_id: int, user_id: int) -> int:
    held = select(func.count()).where(
        Lease.project_id == project_id, Lease.user_id == user_id, Lease.query_id == Query.id, Query.reserve
    )
    return max(0, RESERVE_AHEAD - (session.scalar(held) or 0))
