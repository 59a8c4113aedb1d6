"""The people of a project, for its admins: who may label it and why, and what each of them did there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, exists, func, or_, select, true
from sqlalchemy.orm import Session

from app.records import Annotation, Lease, Membership, Project, Role, Standing, User
from app.services import members
from app.services.reporting.people_statistics import NOTHING, Period, Spans, Work, work_of

PAGE_SIZE = 25
MOST_OFFERED = 200
MOST_COMPARED = 500  # answers of each person: a page shows many people
WEEK_DAYS = 7


@dataclass(frozen=True)
class MemberRow:
    """One person and what they did in the project.

    Attributes:
        may_label: whether they may see and label it now.
        standing: what was decided about them by name, at ``since``; None leaves it to the switch and the groups.
        spans: their work, the last seven days and all of it.
        held: images that they hold now.
        seen_at: when they last answered, or took one of the images that they hold.
    """

    id: int
    name: str
    role: Role
    group: str | None
    is_disabled: bool
    may_label: bool
    standing: Standing | None
    since: datetime | None
    set_by: str | None
    spans: Spans
    held: int
    seen_at: datetime | None

    @property
    def week(self) -> Work:
        """The last seven days."""
        return self.spans[Period.WEEK]

    @property
    def all(self) -> Work:
        """As far back as is looked at."""
        return self.spans[Period.ALL]


@dataclass(frozen=True)
class ProjectPeople:
    """One page of people by name; ``next_after`` is the name to go on from, if there are more."""

    rows: tuple[MemberRow, ...]
    next_after: str | None


def project_people(session: Session, project_id: int, after: str = "") -> ProjectPeople:
    """Return the annotators who may label a project, and whoever was named or has answered there."""
    found = _found(session, project_id, after)
    shown = found[:PAGE_SIZE]
    ids = [user.id for user, *_ in shown]
    works = work_of(session, ids, [project_id], days=WEEK_DAYS, compared=MOST_COMPARED)
    held = _held(session, project_id, ids)
    rows = tuple(
        _row(each, works.get((each[0].id, project_id), (NOTHING,) * len(Period)), held.get(each[0].id, (0, None)))
        for each in shown
    )
    return ProjectPeople(rows, rows[-1].name if len(found) > PAGE_SIZE else None)


def others(session: Session, project_id: int) -> list[str]:
    """Return names of annotators who may not label a project, as many as a form offers."""
    wanted = (
        select(User.name)
        .select_from(Project)
        .join(User, true())
        .join(Membership, members.decided(), isouter=True)
        .where(Project.id == project_id, User.disabled_at.is_(None), members.is_in().is_not(True))
        .order_by(User.name)
        .limit(MOST_OFFERED)
    )
    return list(session.scalars(wanted))


def _found(
    session: Session, project_id: int, after: str
) -> Sequence[Row[User, bool, Standing | None, datetime | None, str | None]]:
    by = select(User.name).where(User.id == Membership.set_by).correlate(Membership).scalar_subquery()
    answered = exists().where(Annotation.project_id == Project.id, Annotation.user_id == User.id)
    wanted = (
        select(User, members.is_in(), Membership.standing, Membership.created_at, by)
        .select_from(Project)
        .join(User, true())
        .join(Membership, members.decided(), isouter=True)
        .where(
            Project.id == project_id,
            User.role != Role.ORACLE,
            User.name > after,
            or_((User.role == Role.ANNOTATOR) & members.is_in(), Membership.standing != Standing.FORMER, answered),
        )
        .order_by(User.name)
        .limit(PAGE_SIZE + 1)
    )
    return session.execute(wanted).all()


def _held(session: Session, project_id: int, user_ids: Sequence[int]) -> dict[int, tuple[int, datetime | None]]:
    counts = (
        select(Lease.user_id, func.count(), func.max(Lease.created_at))
        .where(Lease.project_id == project_id, Lease.user_id.in_(user_ids))
        .group_by(Lease.user_id)
    )
    return {user_id: (count, latest) for user_id, count, latest in session.execute(counts)}


def _row(
    found: Row[User, bool, Standing | None, datetime | None, str | None],
    spans: Spans,
    held: tuple[int, datetime | None],
) -> MemberRow:
    user, may_label, standing, since, set_by = found
    seen = [at for at in (spans[Period.ALL].latest_at, held[1]) if at is not None]
    return MemberRow(
        id=user.id,
        name=user.name,
        role=user.role,
        group=user.group_name,
        is_disabled=user.disabled_at is not None,
        may_label=bool(may_label),
        standing=standing,
        since=since,
        set_by=set_by,
        spans=spans,
        held=held[0],
        seen_at=max(seen, default=None),
    )
