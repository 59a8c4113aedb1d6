"""What waits for a reviewer: an image, why it waits, and what everybody said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.records import Annotation, Class, Image, LabelRule, Outcome, Query, QuerySource, ReviewReason, Role, User
from app.services.queue import standing
from app.services.reporting.listing import Thumb

AHEAD = 3  # images whose bytes the page fetches before they are shown


@dataclass(frozen=True)
class Opinion:
    """What one person said of an image."""

    person: str
    by_simulation: bool
    outcome: Outcome
    class_id: int | None
    class_name: str | None
    saw_prediction: bool
    said_at: datetime


@dataclass(frozen=True)
class ReviewItem:
    """An image that waits; the label is the one that it has meanwhile, if it has one."""

    image_id: int
    thumb: Thumb
    name: str
    row: int
    reason: ReviewReason
    label: str | None
    label_rule: LabelRule | None
    certainty: float | None
    opinions: tuple[Opinion, ...]

    @property
    def given(self) -> frozenset[int]:
        """Classes that somebody gave."""
        return frozenset(one.class_id for one in self.opinions if one.class_id is not None)


@dataclass(frozen=True)
class ReviewQueue:
    """The image to decide about, if any waits, how many do, and which come next."""

    item: ReviewItem | None
    waiting: int
    ahead: tuple[int, ...]


def review_queue(session: Session, project_id: int, after: int = -1) -> ReviewQueue:
    """Return the first waiting image of a project with a row above ``after``, or else the first of all."""
    found = _waiting(session, project_id, after) or _waiting(session, project_id, -1)
    count = select(func.count()).where(Image.project_id == project_id, Image.review_reason.is_not(None))
    waiting = session.scalar(count) or 0
    if not found:
        return ReviewQueue(None, waiting, ())
    return ReviewQueue(_item(session, found[0]), waiting, tuple(image.id for image in found[1:]))


def waiting_for_review(session: Session, project_id: int) -> dict[ReviewReason, int]:
    """Return how many images wait for each reason."""
    counted = (
        select(Image.review_reason, func.count())
        .where(Image.project_id == project_id, Image.review_reason.is_not(None))
        .group_by(Image.review_reason)
    )
    return {ReviewReason(reason): count for reason, count in session.execute(counted) if reason is not None}


def _waiting(session: Session, project_id: int, after: int) -> Sequence[Image]:
    wanted = select(Image).where(Image.project_id == project_id, Image.review_reason.is_not(None), Image.row > after)
    return session.scalars(wanted.order_by(Image.row).limit(AHEAD + 1)).all()


def _item(session: Session, image: Image) -> ReviewItem:
    rows = session.execute(
        select(Annotation, User.name, User.role, Class.name)
        .join(User, User.id == Annotation.user_id)
        .join(Query, Query.id == Annotation.query_id)
        .join(Class, Class.id == Annotation.class_id, isouter=True)
        .where(Annotation.image_id == image.id, Query.source != QuerySource.REVIEW, *standing())
        .order_by(Annotation.id)
    )
    opinions = tuple(
        Opinion(
            person=person,
            by_simulation=role is Role.ORACLE,
            outcome=given.outcome,
            class_id=given.class_id,
            class_name=class_name,
            saw_prediction=given.saw_prediction,
            said_at=given.created_at,
        )
        for given, person, role, class_name in rows
    )
    return ReviewItem(
        image_id=image.id,
        thumb=Thumb(image.id, image.width, image.height),
        name=image.name,
        row=image.row,
        reason=image.review_reason or ReviewReason.UNSURE,
        label=session.scalar(select(Class.name).where(Class.id == image.label_class_id)),
        label_rule=image.label_rule,
        certainty=image.label_certainty,
        opinions=opinions,
    )
