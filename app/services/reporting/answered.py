"""The one condition under which pages call a query answered."""

from __future__ import annotations

from sqlalchemy import ColumnElement, exists

from app.records import Annotation, Outcome, Query


def is_answered(*more: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether somebody answered the query, skipping aside; ``more`` narrows which answers are meant."""
    return exists().where(
        Annotation.query_id == Query.id,
        Annotation.revoked_at.is_(None),
        Annotation.counted,
        Annotation.outcome != Outcome.SKIP,
        *more,
    )
