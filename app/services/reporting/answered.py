"""The conditions under which pages call a query answered, or answered in a certain way."""

from __future__ import annotations

from sqlalchemy import ColumnElement, exists

from app.records import Annotation, Outcome, Query
from app.services.queue import standing


def is_answered(*more: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether somebody answered the query, skipping aside; ``more`` narrows which answers are meant."""
    return exists().where(
        Annotation.query_id == Query.id,
        Annotation.revoked_at.is_(None),
        Annotation.counted,
        Annotation.outcome != Outcome.SKIP,
        *more,
    )


def has_answer(outcome: Outcome) -> ColumnElement[bool]:
    """Whether somebody gave the query an answer of this kind that stands."""
    return exists().where(Annotation.query_id == Query.id, Annotation.outcome == outcome, *standing())
