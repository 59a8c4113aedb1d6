"""Claiming: people and the simulated oracle take queries. What becomes of them while held is ``services.leases``.

One person never holds a query twice, no query is held by more people than it wants answers, and the order is the
ranking's. A claim is one statement whose WHERE tests the very column that it changes; ``SKIP LOCKED`` alone would hand
one image to two people.

A page claims every few answers, and building a statement takes longer than running it, so those of a claim are built
once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cache
from typing import Any, cast

from sqlalchemy import (
    ARRAY,
    BigInteger,
    BindParameter,
    ColumnElement,
    Integer,
    Interval,
    Select,
    Table,
    any_,
    bindparam,
    case,
    exists,
    func,
    insert,
    select,
    union_all,
    update,
)
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql.dml import ReturningInsert, ReturningUpdate

from app.errors import BadInput
from app.records import CHECKS, Annotation, Image, Lease, Project, ProjectState, Query, QuerySource, Round
from app.services import checks, members, projects, rounds
from app.services.checks import SHOWN_AS_RESERVE, Beside
from app.services.leases import return_expired
from app.services.locks import lock_claims, lock_project
from app.services.queue import standing

RESERVE_AHEAD = 2  # reserve queries handed out before the batch is answered: enough to hide one request
NEARLY_SPENT = 200  # labels left below which claims take turns, so that together they cannot pass the budget
MOST_AT_ONCE = 1000
SUREST_FIRST = (Query.confidence.desc(), Query.id)


class Alike(StrEnum):
    """What the images on a page of the grid have in common, by the column of queries that says so."""

    CLASS = "predicted_class_id"
    CLUSTER = "cluster"


Key = int | BindParameter[int]  # an id, or the place of one in a statement that is built once
PROJECT: BindParameter[int] = bindparam("project", type_=BigInteger)
PERSON: BindParameter[int] = bindparam("person", type_=BigInteger)
COUNT: BindParameter[int] = bindparam("count", type_=Integer)
LEASE: BindParameter[timedelta] = bindparam("lease", type_=Interval)
LEFT: BindParameter[timedelta] = bindparam("left", type_=Interval)  # of a lease that nothing has renewed for too long


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
    content_hash: str


@dataclass(frozen=True)
class _Wish:
    """What a person's page asks for; see ``claim``."""

    user_id: int
    count: int
    lease_seconds: float
    orphans_after: float
    reserves: bool

    @property
    def orphans_left(self) -> timedelta:
        """What is left of a lease at most when its page has crashed."""
        return timedelta(seconds=self.lease_seconds * (1.0 - self.orphans_after))


@dataclass(frozen=True)
class _Left:
    """What a claim goes by, read in one statement.

    Attributes:
        labels: how many more queries may be handed out before their answers pass the budget.
        expired: some leases have run out.
        round_is_open: a round is requested or running.
        orphans: the person has leases that a crashed page of theirs left.
        reserves_held: how many queries beyond the batch the person holds.
    """

    labels: int
    expired: bool
    round_is_open: bool
    orphans: bool
    reserves_held: int


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
    wish = _Wish(user_id, count, lease_seconds, orphans_after, reserves=reserves)
    left = _what_is_left(session, project, wish)
    if not left.expired:
        return asks_of(session, _take_next(session, project, wish, left))
    with session.begin_nested() as first_try:
        taken = _take_next(session, project, wish, left)
        if len(taken) < count:
            first_try.rollback()  # lets go of the queries, since the project is locked before any of them
    if len(taken) < count:
        return_expired(session, project_id)
        taken = _take_next(session, project, wish, _what_is_left(session, project, wish))
    return asks_of(session, taken)


def claim_page(
    session: Session, project_id: int, user_id: int, of: tuple[Alike, int], count: int, *, lease_seconds: float
) -> list[Ask]:
    """Take up to ``count`` queries for a page of the grid: of one predicted class, the surest first, or one cluster.

    All of the batch come before those beyond it, which fill the page up whether or not the batch is answered. It is
    for the caller to take turns and to see that people may be shown what the network believes.
    """
    project = projects.get(session, project_id)
    if project.state is not ProjectState.RUNNING:
        return []
    wish = _Wish(user_id, count, lease_seconds, orphans_after=1.0, reserves=True)
    room = min(count, _what_is_left(session, project, wish).labels)
    taken = _take(session, project_id, user_id, room, lease_seconds, reserves=room, of=of)
    return asks_of(session, taken, surest_first=of[0] is Alike.CLASS)


def take_turns(session: Session, project_id: int, user_id: int) -> None:
    """Let one person's claims take turns, so that two of their pages never take the same query.

    Raises:
        NotFound: there is no such project, or the person never was a member of it.
        NotAMember: not any more.
    """
    lock_claims(session, project_id, user_id)
    members.check(session, project_id, user_id)


def asks_of(session: Session, query_ids: Sequence[int], *, surest_first: bool = False) -> list[Ask]:
    """Return queries as they are shown to whoever holds them, in the ranking's order or that of the grid."""
    if not query_ids:
        return []
    return [Ask(*row) for row in session.execute(_asks_statement(surest_first), {"queries": list(query_ids)})]


def takeable(project_id: Key, user_id: Key) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions under which a person may take a query: it wants answers, and none of theirs."""
    held = exists().where(Lease.query_id == Query.id, Lease.user_id == user_id)
    seen = exists().where(Annotation.image_id == Query.image_id, Annotation.user_id == user_id, *standing())
    return Query.project_id == project_id, Query.open_answers > 0, ~held, ~seen


def pickable(
    project_id: Key, user_id: Key, *, reserve: bool, of: tuple[Alike, Key] | None = None, lock: bool = True
) -> Select[int]:
    """Return the queries that a person may take, locked unless they are only looked at.

    They come in the ranking's order, or those of a class with the surest first.
    """
    is_of_page = () if of is None else (getattr(Query, of[0]) == of[1],)
    found = (
        select(Query.id)
        .where(*takeable(project_id, user_id), Query.reserve.is_(reserve), *is_of_page)
        .order_by(*(SUREST_FIRST if of is not None and of[0] is Alike.CLASS else (Query.rank, Query.id)))
    )
    return found.with_for_update(skip_locked=True, key_share=True) if lock else found


def _take_next(session: Session, project: Project, wish: _Wish, left: _Left) -> list[int]:
    """Lease what comes next for a person: what a crashed page of theirs left, then checks among the ranking."""
    user_id, lease_seconds = wish.user_id, wish.lease_seconds
    taken = _take_orphans(session, project.id, wish) if left.orphans else []
    room = min(wish.count - len(taken), left.labels)
    wanted = checks.draw(session, project, user_id, room)
    ahead = _reserves_ahead(wish, left, room)
    ranked = _take(session, project.id, user_id, room - wanted.total, lease_seconds, reserves=ahead)
    if wanted.total:
        if beside := _places(session, project.id, user_id, ranked, reserves=ahead):
            ranked += checks.take(session, project, user_id, wanted, beside=beside, lease_seconds=lease_seconds)
        left = _left(session, project, wish)  # queries are held by now, so the project is not locked any more
        ahead = _reserves_ahead(wish, left, room)
        ranked += _take(session, project.id, user_id, room - len(ranked), lease_seconds, reserves=ahead)
    return taken + ranked


def _take(
    session: Session,
    project_id: int,
    user_id: int,
    count: int,
    lease_seconds: float,
    *,
    reserves: int = 0,
    of: tuple[Alike, int] | None = None,
) -> list[int]:
    """Lease up to ``count`` queries, of one class or cluster if it is given, at most ``reserves`` beyond the batch.

    It is one statement, so it sees one ranking: in two, a round that ends between them would hand out the new reserve
    before the new batch.
    """
    if count <= 0:
        return []
    values = {
        "project": project_id,
        "person": user_id,
        "count": count,
        "reserves": reserves,
        "of": None if of is None else of[1],
        "lease": timedelta(seconds=lease_seconds),
    }
    return list(session.scalars(_take_statement(None if of is None else of[0]), values).all())


def _take_orphans(session: Session, project_id: int, wish: _Wish) -> list[int]:
    values = {
        "project": project_id,
        "person": wish.user_id,
        "count": wish.count,
        "left": wish.orphans_left,
        "lease": timedelta(seconds=wish.lease_seconds),
    }
    return list(session.scalars(_orphans_statement(), values).all())


def _what_is_left(session: Session, project: Project, wish: _Wish) -> _Left:
    if project.budget - project.labels_used < NEARLY_SPENT:
        project = lock_project(session, project.id)
    return _left(session, project, wish)


def _left(session: Session, project: Project, wish: _Wish) -> _Left:
    values = {"project": project.id, "person": wish.user_id, "left": wish.orphans_left}
    held, expired, is_open, orphans, reserves_held = session.execute(_held_statement(), values).one()
    labels = max(0, project.budget - project.labels_used - held)
    return _Left(labels, expired > 0, is_open, orphans > 0, reserves_held)


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


def _reserves_ahead(wish: _Wish, left: _Left, room: int) -> int:
    """Return how many queries beyond the batch may be taken: as many as there is room for while a round is open."""
    if room <= 0 or not wish.reserves:
        return 0
    if left.round_is_open:
        return room
    return max(0, RESERVE_AHEAD - left.reserves_held)


@cache
def _take_statement(alike: Alike | None) -> ReturningInsert[int]:
    value: BindParameter[int] = bindparam("of", type_=BigInteger)
    of = None if alike is None else (alike, value)
    batch = pickable(PROJECT, PERSON, reserve=False, of=of).limit(COUNT).cte("batch")
    taken = select(func.count()).select_from(batch).scalar_subquery()
    spare = pickable(PROJECT, PERSON, reserve=True, of=of)
    reserves: BindParameter[int] = bindparam("reserves", type_=Integer)
    beyond = spare.limit(func.least(reserves, COUNT - taken)).cte("beyond")
    lowered = (
        update(Query)
        .where(Query.id.in_(union_all(select(batch.c.id), select(beyond.c.id))))
        .values(open_answers=Query.open_answers - 1)
        .returning(Query.id, Query.reserve, Query.rank)
        .cte("lowered")
    )
    rows = select(PROJECT, lowered.c.id, PERSON, func.now() + LEASE)
    in_order = rows.order_by(lowered.c.reserve, lowered.c.rank, lowered.c.id)
    leases = cast(Table, Lease.__table__)  # of the class, an insert would take the values for columns
    leased = insert(leases).from_select(["project_id", "query_id", "user_id", "expires_at"], in_order)
    return leased.returning(leases.c.query_id)


@cache
def _orphans_statement() -> ReturningUpdate[int]:
    orphans = (
        select(Lease.id)
        .where(Lease.project_id == PROJECT, Lease.user_id == PERSON, Lease.expires_at <= func.now() + LEFT)
        .order_by(Lease.id)
        .limit(COUNT)
        .with_for_update(skip_locked=True)
    )
    renewed = update(Lease).where(Lease.id.in_(orphans.scalar_subquery())).values(expires_at=func.now() + LEASE)
    return renewed.returning(Lease.query_id).execution_options(synchronize_session=False)


@cache
def _held_statement() -> Select[int, int, bool, int, int]:
    held = func.count().filter(~Lease.is_check)
    expired = func.count().filter(Lease.expires_at < func.now())
    orphans = func.count().filter(Lease.user_id == PERSON, Lease.expires_at <= func.now() + LEFT)
    of_person = aliased(Lease)
    reserves = select(func.count()).where(
        of_person.project_id == PROJECT, of_person.user_id == PERSON, of_person.query_id == Query.id, Query.reserve
    )
    found = select(held, expired, rounds.open_round(PROJECT).exists(), orphans, reserves.scalar_subquery())
    return found.where(Lease.project_id == PROJECT)


@cache
def _asks_statement(surest_first: bool) -> Select[Any]:
    as_reserve = case((Query.source.in_(CHECKS), Query.parts[SHOWN_AS_RESERVE].as_boolean()), else_=Query.reserve)
    size = Image.width, Image.height
    return (
        select(Query.id, Query.image_id, *size, Round.number, Query.rank, as_reserve, Query.source, Image.content_hash)
        .join(Image, Image.id == Query.image_id)
        .join(Round, Round.id == Query.round_id)
        .where(Query.id == any_(bindparam("queries", type_=ARRAY(BigInteger))))
        .order_by(*(SUREST_FIRST if surest_first else (as_reserve, Query.rank, Query.id)))
    )
