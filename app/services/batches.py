"""What makes the next round due: whether a batch is answered, and whether anything was since it was asked."""

from __future__ import annotations

from functools import cache

from sqlalchemy import BigInteger, Select, bindparam, exists, func, or_, select
from sqlalchemy.orm import Session

from app.records import Annotation, Outcome, Query, Round
from app.services.queue import standing


def awaits_answers(session: Session, latest: Round) -> bool:
    """Say whether the batch of a round has queries that nobody has answered or skipped."""
    of_batch = {"project": latest.project_id, "round": latest.id}
    return session.scalar(_unanswered_statement(), of_batch) is not None


def answered_since(session: Session, latest: Round) -> bool:
    """Say whether anything was answered, or taken back, since the snapshot that a round learned from."""
    newer = select(Annotation.id).where(
        Annotation.project_id == latest.project_id,
        Annotation.counted,
        or_(
            Annotation.id > (latest.last_annotation_id or 0),
            Annotation.revoked_at > func.coalesce(latest.started_at, latest.requested_at),
        ),
    )
    return session.scalar(newer.limit(1)) is not None


@cache
def _unanswered_statement() -> Select[int]:
    skipped = exists().where(Annotation.image_id == Query.image_id, Annotation.outcome == Outcome.SKIP, *standing())
    of_project = Query.project_id == bindparam("project", type_=BigInteger)  # for the index on what is open
    of_batch = Query.round_id == bindparam("round", type_=BigInteger), ~Query.reserve
    return select(Query.id).where(of_project, *of_batch, Query.closed_at.is_(None), ~skipped).limit(1)
