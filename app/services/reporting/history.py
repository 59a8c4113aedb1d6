"""The history of asking: all rounds of a project."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, true
from sqlalchemy.orm import Session

from app.records import Image, Query, Round, RoundReason, RoundState
from app.services.reporting.answered import is_answered
from app.services.reporting.listing import Thumb

PAGE_SIZE = 25
STRIP_SIZE = 8


@dataclass(frozen=True)
class RoundRow:
    """A round in the list: what it learned from, what it reached, and the first images it asked about."""

    number: int
    state: RoundState
    reason: RoundReason
    labels: int | None
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    nll: float | None
    seconds: float | None
    requested_at: datetime
    finished_at: datetime | None
    error: str | None
    asked: int
    answered: int
    strip: tuple[Thumb, ...]


@dataclass(frozen=True)
class RoundList:
    """One page of rounds, newest first; ``next_before`` is the number to go on from, if there are more."""

    rows: tuple[RoundRow, ...]
    next_before: int | None


def list_rounds(session: Session, project_id: int, before: int | None = None) -> RoundList:
    """Return a page of a project's rounds, those with numbers below ``before``."""
    wanted = select(Round).where(Round.project_id == project_id).order_by(Round.number.desc()).limit(PAGE_SIZE + 1)
    if before is not None:
        wanted = wanted.where(Round.number < before)
    found = session.scalars(wanted).all()
    shown = found[:PAGE_SIZE]
    ids = [each.id for each in shown]
    counts, strips = _counts(session, ids), _strips(session, ids)
    rows = tuple(_row(each, *counts.get(each.id, (0, 0)), strips.get(each.id, ())) for each in shown)
    return RoundList(rows, rows[-1].number if len(found) > PAGE_SIZE else None)


def _row(found: Round, asked: int, answered: int, strip: tuple[Thumb, ...]) -> RoundRow:
    metrics, timings = found.metrics or {}, found.timings or {}
    return RoundRow(
        number=found.number,
        state=found.state,
        reason=found.reason,
        labels=found.labels,
        accuracy=metrics.get("test_accuracy"),
        accuracy_low=metrics.get("test_accuracy_low"),
        accuracy_high=metrics.get("test_accuracy_high"),
        nll=metrics.get("test_nll"),
        seconds=sum(timings.values()) if timings else None,
        requested_at=found.requested_at,
        finished_at=found.finished_at,
        error=found.error,
        asked=asked,
        answered=answered,
        strip=strip,
    )


def _counts(session: Session, round_ids: Sequence[int]) -> dict[int, tuple[int, int]]:
    rows = session.execute(
        select(Query.round_id, func.count(), func.count().filter(is_answered()))
        .where(Query.round_id.in_(round_ids), ~Query.reserve)
        .group_by(Query.round_id)
    )
    return {round_id: (asked, answered) for round_id, asked, answered in rows}


def _strips(session: Session, round_ids: Sequence[int]) -> dict[int, tuple[Thumb, ...]]:
    first = (
        select(Query.image_id, Query.rank)
        .where(Query.round_id == Round.id, ~Query.reserve)
        .order_by(Query.rank)
        .limit(STRIP_SIZE)
        .lateral()
    )
    rows = session.execute(
        select(Round.id, Image.id, Image.width, Image.height)
        .select_from(Round)
        .join(first, true())
        .join(Image, Image.id == first.c.image_id)
        .where(Round.id.in_(round_ids))
        .order_by(Round.id, first.c.rank)
    )
    strips: dict[int, list[Thumb]] = defaultdict(list)
    for round_id, image_id, width, height in rows:
        strips[round_id].append(Thumb(image_id, width, height))
    return {round_id: tuple(thumbs) for round_id, thumbs in strips.items()}
