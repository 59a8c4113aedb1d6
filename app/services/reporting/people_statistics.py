"""What people did: answers by outcome, pace, and how often two people agree, from the latest answers of each.

Only answers that stand are told. Days and weeks begin at midnight UTC, by the database's clock.

**Pace** is labels a minute of active time. An answer that came within ``PAUSE_SECONDS`` of the person's answer before,
in the same project, took the time between them; after a longer pause nobody knows what it took, so it is left out,
above and below the line. Answers that waited in an outbox arrive together, so they count for the moment they arrived.

**Agreement** is plain and pairwise: of all pairs of one's own label and another person's label of the same image, the
share that name the same class. An image that anybody is still asked about is left out, so that nobody learns what
others said while answering blind; so is what the simulated oracle said, which knows the truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

from sqlalchemy import CTE, ColumnElement, Select, and_, case, exists, func, literal, select, true
from sqlalchemy.orm import Session

from app.records import Annotation, Outcome, Project, Query, Role, User
from app.services.queue import standing
from app.services.reporting.agreement import Agreement

MOST_ANSWERS = 5000  # of one person in one project that are looked at, the latest first
MOST_COMPARED = 1000  # of those, that are compared with others' answers
MOST_OTHERS = 100  # answers of one image that one's own is compared with: the largest overlap
PAUSE_SECONDS = 60.0
NO_PAIRS = Agreement(0, 0)


class Period(IntEnum):
    """Spans that end now, the shortest first; each holds those before it."""

    TODAY = 0
    WEEK = 1  # since Monday
    ALL = 2


@dataclass(frozen=True)
class Work:
    """What was answered in some span of time.

    Attributes:
        answers: how many of each outcome.
        paced_labels: labels whose time is known, out of ``active_seconds``.
        agreement: with other people, in pairs of labels; its shares are None while there is nothing to compare.
        latest_at: when the latest answer came.
        is_cut: there are older answers that were not looked at.
    """

    answers: Mapping[Outcome, int] = field(default_factory=dict)
    paced_labels: int = 0
    active_seconds: float = 0.0
    agreement: Agreement = NO_PAIRS
    latest_at: datetime | None = None
    is_cut: bool = False

    @property
    def count(self) -> int:
        """All answers."""
        return sum(self.answers.values())

    @property
    def pace(self) -> float | None:
        """Labels a minute of active time; None while no time is known."""
        return 60.0 * self.paced_labels / self.active_seconds if self.active_seconds > 0 else None

    def share(self, outcome: Outcome) -> float | None:
        """The share of all answers that are of an outcome; None for no answers."""
        return self.answers.get(outcome, 0) / self.count if self.count else None


NOTHING = Work()
Key = tuple[int, int]  # user, project
Spans = tuple[Work, ...]  # by period


def work_of(
    session: Session,
    user_ids: Sequence[int],
    project_ids: Sequence[int],
    *,
    days: int = 0,
    compared: int = MOST_COMPARED,
) -> dict[Key, Spans]:
    """Return what each person did in each project, by period; whoever did nothing there is left out.

    Args:
        user_ids: at most as many as a page shows.
        project_ids: likewise.
        days: for a number above zero, the period ``WEEK`` holds that many days instead.
        compared: of how many answers of each person in each project the agreement is told, the latest ones.
    """
    latest = _latest(user_ids, project_ids)
    week = func.now() - timedelta(days=days) if days else _midnight("week")
    period = case((latest.c.at >= _midnight("day"), 0), (latest.c.at >= week, 1), else_=2).label("period")
    found: dict[Key, list[Work]] = {}
    for row in session.execute(_counted(latest, period)):
        user_id, project_id, which, outcome, count, paced, seconds, at, is_cut = row
        works = found.setdefault((user_id, project_id), [NOTHING] * len(Period))
        works[which] = _add((works[which], _work(outcome, count, paced, seconds, at=at, is_cut=is_cut)))
    for row in session.execute(_compared(latest, period, compared)):
        user_id, project_id, which, right, pairs = row
        works = found[user_id, project_id]
        works[which] = _add((works[which], Work(agreement=Agreement(right, pairs))))
    return {key: _nested(works) for key, works in found.items()}


def added(works: Iterable[Spans]) -> Spans:
    """Return several people's, or projects', work as one."""
    columns = list(zip(*works, strict=True))
    return tuple(_add(column) for column in columns) if columns else (NOTHING,) * len(Period)


def _midnight(unit: str) -> ColumnElement[datetime]:
    return func.date_trunc(unit, func.now(), "UTC")


def _latest(user_ids: Sequence[int], project_ids: Sequence[int]) -> CTE:
    """Return the latest answers of each person in each project, one more than are looked at."""
    own = (
        select(
            Annotation.id,
            Annotation.image_id,
            Annotation.outcome,
            Annotation.class_id,
            Annotation.created_at.label("at"),
        )
        .where(Annotation.project_id == Project.id, Annotation.user_id == User.id, *standing())
        .order_by(Annotation.id.desc())
        .limit(MOST_ANSWERS + 1)
        .lateral()
    )
    latest_first = own.c.id.desc()  # one order for both windows, so that Postgres sorts once
    rows = (
        select(
            User.id.label("user_id"),
            Project.id.label("project_id"),
            own,
            func.row_number().over(partition_by=(User.id, Project.id), order_by=latest_first).label("place"),
            (own.c.at - func.lead(own.c.at).over(partition_by=(User.id, Project.id), order_by=latest_first)).label(
                "gap"
            ),
        )
        .select_from(User)
        .join(Project, true())
        .join(own, true())
        .where(User.id.in_(user_ids), Project.id.in_(project_ids))
    )
    return rows.cte("latest")


def _counted(latest: CTE, period: ColumnElement[int]) -> Select[Any]:
    seconds = func.greatest(0.0, func.extract("epoch", latest.c.gap))
    # the first answer has no gap, and GREATEST passes over what is unknown
    is_active = and_(latest.c.place <= MOST_ANSWERS, latest.c.gap.is_not(None), seconds <= PAUSE_SECONDS)
    return select(
        latest.c.user_id,
        latest.c.project_id,
        period,
        latest.c.outcome,
        func.count().filter(latest.c.place <= MOST_ANSWERS),
        func.count().filter(is_active),
        func.coalesce(func.sum(seconds).filter(is_active), 0.0),
        func.max(latest.c.at),
        func.max(latest.c.place) > MOST_ANSWERS,
    ).group_by(latest.c.user_id, latest.c.project_id, period, latest.c.outcome)


def _compared(latest: CTE, period: ColumnElement[int], compared: int) -> Select[Any]:
    is_asked = exists().where(Query.image_id == latest.c.image_id, Query.closed_at.is_(None))
    pairs = func.count()
    # bounded, which also makes Postgres look the images up one by one instead of reading every annotation
    others = (
        select(Annotation.class_id)
        .join(User, User.id == Annotation.user_id)
        .where(
            Annotation.image_id == latest.c.image_id,
            Annotation.user_id != latest.c.user_id,
            Annotation.outcome == Outcome.LABEL,
            *standing(),
            User.role != Role.ORACLE,
        )
        .limit(MOST_OTHERS)
        .lateral()
    )
    is_label = latest.c.outcome == literal(Outcome.LABEL.value)
    return (
        select(
            latest.c.user_id, latest.c.project_id, period, pairs.filter(others.c.class_id == latest.c.class_id), pairs
        )
        .join(others, true())
        .where(is_label, latest.c.place <= compared, ~is_asked)
        .group_by(latest.c.user_id, latest.c.project_id, period)
    )


def _work(outcome: Outcome, count: int, paced: int, seconds: float, *, at: datetime, is_cut: bool) -> Work:
    labels = paced if outcome is Outcome.LABEL else 0
    return Work({outcome: count} if count else {}, labels, float(seconds), latest_at=at, is_cut=is_cut)


def _add(works: Sequence[Work]) -> Work:
    moments = [work.latest_at for work in works if work.latest_at is not None]
    return Work(
        answers={
            outcome: count for outcome in Outcome if (count := sum(work.answers.get(outcome, 0) for work in works))
        },
        paced_labels=sum(work.paced_labels for work in works),
        active_seconds=sum(work.active_seconds for work in works),
        agreement=Agreement(sum(work.agreement.right for work in works), sum(work.agreement.count for work in works)),
        latest_at=max(moments, default=None),
        is_cut=any(work.is_cut for work in works),
    )


def _nested(works: Sequence[Work]) -> Spans:
    """Let each period hold those before it."""
    return tuple(_add(works[: period + 1]) for period in Period)
