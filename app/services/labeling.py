"""Labeling: people and the simulated oracle take queries, answer them, take answers back and let queries go.

One person never holds a query twice, no query is held by more people than it wants answers, and the order is the
ranking's. A claim is one statement whose WHERE tests the very column that it changes; ``SKIP LOCKED`` alone would hand
one image to two people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, exists, func, insert, literal, select, update
from sqlalchemy.orm import Session

from app.errors import BadInput, BudgetSpent, Conflict, LeaseLost, QuerentError
from app.outbox import EventKind, announce
from app.records import (
    Annotation,
    Class,
    Image,
    Lease,
    Outcome,
    Project,
    ProjectState,
    Query,
    QuerySource,
    Round,
)
from app.services import projects, rounds
from app.services.clock import now
from app.services.locks import lock_project, lock_query
from app.services.queue import return_leases, settle, standing

RESERVE_AHEAD = 2  # reserve queries handed out before the batch is answered: enough to hide one request
NEARLY_SPENT = 200  # labels left below which claims take turns, so that together they cannot pass the budget
MOST_AT_ONCE = 1000


@dataclass(frozen=True)
class Ask:
    """A query as it is shown to whoever holds it; nothing in it hints at the answer."""

    query_id: int
    image_id: int
    width: int
    height: int
    round_number: int
    rank: int
    reserve: bool
    source: QuerySource


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
        NotFound: there is no such project.
        BadInput: ``count`` is out of bounds.
    """
    if not 1 <= count <= MOST_AT_ONCE:
        raise BadInput("count", f"{count} is out of bounds", f"ask for 1 to {MOST_AT_ONCE} queries")
    # one person's claims take turns, so that two of their pages never take the same query
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"claim {project_id} {user_id}", 0))))
    project = projects.get(session, project_id)
    if project.state is not ProjectState.RUNNING:
        return []
    taken = _take_orphans(session, project_id, user_id, count, lease_seconds=lease_seconds, orphans_after=orphans_after)
    room = min(count - len(taken), _labels_left(session, project))
    taken += _take(session, project_id, user_id, room, lease_seconds, reserve=False)
    if reserves and (room := min(room, count - len(taken))) > 0:
        ahead = room if rounds.is_open(session, project_id) else _reserve_room(session, project_id, user_id)
        taken += _take(session, project_id, user_id, min(room, ahead), lease_seconds, reserve=True)
    if len(taken) < count and return_expired(session, project_id):
        taken += _take(session, project_id, user_id, min(room, count - len(taken)), lease_seconds, reserve=False)
    return _asks(session, taken)


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
            return _asks(session, [latest.query_id])[0]
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
    return _asks(session, [query.id])[0]


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


def _take(
    session: Session, project_id: int, user_id: int, count: int, lease_seconds: float, *, reserve: bool
) -> list[int]:
    if count <= 0:
        return []
    held = exists().where(Lease.query_id == Query.id, Lease.user_id == user_id)
    seen = exists().where(Annotation.image_id == Query.image_id, Annotation.user_id == user_id, *standing())
    picked = (
        select(Query.id)
        .where(Query.project_id == project_id, Query.open_answers > 0, Query.reserve.is_(reserve), ~held, ~seen)
        .order_by(Query.rank, Query.id)
        .limit(count)
        .with_for_update(skip_locked=True, key_share=True)
        .cte("picked")
    )
    lowered = (
        update(Query)
        .where(Query.id.in_(select(picked.c.id)))
        .values(open_answers=Query.open_answers - 1)
        .returning(Query.id, Query.rank)
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
            ).order_by(lowered.c.rank, lowered.c.id),
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
    held = session.scalar(select(func.count()).where(Lease.project_id == project.id)) or 0
    return max(0, project.budget - project.labels_used - held)


def _reserve_room(session: Session, project_id: int, user_id: int) -> int:
    held = select(func.count()).where(
        Lease.project_id == project_id, Lease.user_id == user_id, Lease.query_id == Query.id, Query.reserve
    )
    return max(0, RESERVE_AHEAD - (session.scalar(held) or 0))


def _asks(session: Session, query_ids: Sequence[int]) -> list[Ask]:
    if not query_ids:
        return []
    rows = session.execute(
        select(
            Query.id, Query.image_id, Image.width, Image.height, Round.number, Query.rank, Query.reserve, Query.source
        )
        .join(Image, Image.id == Query.image_id)
        .join(Round, Round.id == Query.round_id)
        .where(Query.id.in_(query_ids))
        .order_by(Query.reserve, Query.rank, Query.id)
    )
    return [Ask(*row) for row in rows]


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
