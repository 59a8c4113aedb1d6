"""By what rule the labels of a project were made, and the latest that took the place of others."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from app.records import Class, Image, LabelChange, LabelRule
from app.services.reporting.listing import Thumb

CHANGES_SHOWN = 12


@dataclass(frozen=True)
class MadeBy:
    """How many labels a rule made, and how certain they are on average; None for labels of an earlier release."""

    rule: LabelRule | None
    labels: int
    certainty: float | None


@dataclass(frozen=True)
class Change:
    """A label that took the place of another; ``after`` is None where none did."""

    thumb: Thumb
    name: str
    before: str
    after: str | None
    rule: LabelRule | None
    certainty: float | None
    changed_at: datetime


@dataclass(frozen=True)
class LabelTrail:
    """Labels by rule, and the latest changes first."""

    made_by: tuple[MadeBy, ...]
    changes: tuple[Change, ...]


def label_trail(session: Session, project_id: int) -> LabelTrail:
    """Return by what rules a project's labels were made, and what changed."""
    counted = session.execute(
        select(Image.label_rule, func.count(), func.avg(Image.label_certainty))
        .where(Image.project_id == project_id, Image.has_human_label)
        .group_by(Image.label_rule)
        .order_by(func.count().desc())
    )
    before, after = aliased(Class), aliased(Class)
    rows = session.execute(
        select(LabelChange, Image.name, Image.width, Image.height, before.name, after.name)
        .join(Image, Image.id == LabelChange.image_id)
        .join(before, before.id == LabelChange.from_class_id)
        .join(after, after.id == LabelChange.to_class_id, isouter=True)
        .where(LabelChange.project_id == project_id)
        .order_by(LabelChange.id.desc())
        .limit(CHANGES_SHOWN)
    )
    changes = tuple(
        Change(Thumb(each.image_id, width, height), name, was, now, each.rule, each.certainty, each.created_at)
        for each, name, width, height, was, now in rows
    )
    return LabelTrail(tuple(MadeBy(rule, labels, certainty) for rule, labels, certainty in counted), changes)
