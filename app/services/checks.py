"""Checks: gold images with known answers, and hidden repeats, mixed into what a person is shown.

A check asks one person and nobody else. Its query is superseded from the start, so it is closed when that person lets
it go, and nobody waits for it. Its answer is not counted: it takes nothing from the budget, changes no label and
reaches no network. A person is checked only where there is something to label, and with each image once, so that checks
never keep anybody busy by themselves.

On the page a check stands beside a query of the ranking: it takes over that query's place and looks like one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session, aliased

from app.records import Annotation, Image, Lease, Outcome, Project, Query, QuerySource
from app.services.clock import now
from app.services.queue import standing

REPEAT_AFTER = 20  # answers in between, so that nobody remembers; fewer where a person has given fewer than twice that
LEAST_BETWEEN = 5
SHOWN_AS_RESERVE = "shown_as_reserve"  # among the parts of a check: how its page is to count it


@dataclass(frozen=True)
class Wanted:
    """How many checks of each kind a claim shall bring."""

    gold: int = 0
    repeats: int = 0

    @property
    def total(self) -> int:
        """Checks of either kind."""
        return self.gold + self.repeats


@dataclass(frozen=True)
class Beside:
    """The query of the ranking that a check stands beside: its place is what people see of the check."""

    round_id: int
    rank: int
    reserve: bool


@dataclass(frozen=True)
class Check:
    """An image that a person is checked with."""

    image_id: int
    source: QuerySource
    beside: Beside


def draw(session: Session, project: Project, user_id: int, count: int) -> Wanted:
    """Draw which of ``count`` queries to be shown to a person are checks; every answer and lease changes the draw."""
    if count <= 0 or not (project.gold_share or project.repeat_share):
        return Wanted()
    chance = _chance(session, project, user_id)
    drawn = [chance.random() for _ in range(count)]
    gold = sum(value < project.gold_share for value in drawn)
    repeats = sum(project.gold_share <= value < project.gold_share + project.repeat_share for value in drawn)
    return Wanted(gold, repeats)


def take(
    session: Session, project: Project, user_id: int, wanted: Wanted, *, beside: Sequence[Beside], lease_seconds: float
) -> list[int]:
    """Ask a person up to as many checks as wanted, and lease them; return their queries.

    Args:
        beside: places of the ranking, one at least, that the checks are put beside.
    """
    chance = _chance(session, project, user_id)
    chosen = [(image_id, QuerySource.GOLD) for image_id in _gold_images(session, project.id, user_id, wanted.gold)]
    again = _labelled_before(session, project.id, user_id, wanted.repeats)
    chosen += [(image_id, QuerySource.REPEAT) for image_id in again]
    return [
        _ask(session, project.id, user_id, Check(image_id, source, chance.choice(beside)), lease_seconds)
        for image_id, source in chosen
    ]


def _chance(session: Session, project: Project, user_id: int) -> random.Random:
    last = session.scalar(
        select(func.max(Annotation.id)).where(Annotation.project_id == project.id, Annotation.user_id == user_id)
    )
    held = session.scalar(select(func.max(Lease.id)).where(Lease.project_id == project.id, Lease.user_id == user_id))
    return random.Random(f"{project.recipe['seed']} {project.id} {user_id} {last} {held}")  # noqa: S311 -- a draw, no secret


def _gold_images(session: Session, project_id: int, user_id: int, count: int) -> list[int]:
    """Return gold images that the person has never been shown."""
    if not count:
        return []
    shown = exists().where(Annotation.image_id == Image.id, Annotation.user_id == user_id)
    gold = select(Image.id).where(
        Image.project_id == project_id, Image.gold_class_id.is_not(None), Image.unusable_at.is_(None), ~shown
    )
    return list(session.scalars(gold.where(~_is_held(user_id)).order_by(_shuffled(user_id)).limit(count)))


def _labelled_before(session: Session, project_id: int, user_id: int, count: int) -> list[int]:
    """Return images that the person labelled long enough ago, and that were not repeated to them yet."""
    if not count:
        return []
    own = (Annotation.project_id == project_id, Annotation.user_id == user_id, Annotation.outcome == Outcome.LABEL)
    labelled = select(Annotation.id).where(*own, *standing()).order_by(Annotation.id.desc())
    total = session.scalar(select(func.count()).where(*own, *standing())) or 0
    between = max(LEAST_BETWEEN, min(REPEAT_AFTER, total // 2))
    newest = session.scalar(labelled.offset(between).limit(1))
    if newest is None:
        return []
    again = aliased(Annotation)
    repeated = exists().where(again.image_id == Image.id, again.user_id == user_id, again.is_check)
    old = (
        select(Image.id)
        .join(Annotation, Annotation.image_id == Image.id)
        .where(*own, *standing(), Annotation.id <= newest, Image.unusable_at.is_(None), ~repeated, ~_is_held(user_id))
    )
    return list(session.scalars(old.order_by(_shuffled(user_id)).limit(count)))


def _is_held(user_id: int) -> ColumnElement[bool]:
    """Return the condition that the person holds a query about an image."""
    return exists().where(Query.image_id == Image.id, Lease.query_id == Query.id, Lease.user_id == user_id)


def _shuffled(user_id: int) -> ColumnElement[str]:
    """Return an order of images that is another one for every person, and always the same."""
    return func.md5(func.concat(Image.content_hash, user_id))


def _ask(session: Session, project_id: int, user_id: int, check: Check, lease_seconds: float) -> int:
    query = Query(
        project_id=project_id,
        round_id=check.beside.round_id,
        image_id=check.image_id,
        rank=check.beside.rank,
        source=check.source,
        reserve=True,  # beyond the batch, so that no batch waits for it
        parts={SHOWN_AS_RESERVE: check.beside.reserve},
        wanted_answers=1,
        open_answers=0,
        superseded_at=now(session),
    )
    session.add(query)
    session.flush()
    expires_at = now(session, timedelta(seconds=lease_seconds))
    lease = Lease(project_id=project_id, query_id=query.id, user_id=user_id, expires_at=expires_at, is_check=True)
    session.add(lease)
    session.flush()
    return query.id
