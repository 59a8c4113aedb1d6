"""The label of an image: what its answers amount to, and the trail of what it was before.

A label is what more than half of those say who gave a class; without such a majority the image has none and waits for a
reviewer, whose word stands above everybody's. Where a project has its labels made by the annotator model, that is what
holds until the next round weighs the answers (``app.services.weighing``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.records import Image, LabelChange, LabelRule, Outcome, ReviewReason


@dataclass(frozen=True)
class Said:
    """One standing answer to an image, in the order given."""

    outcome: Outcome
    class_id: int | None
    by_reviewer: bool = False

    @property
    def ends_asking(self) -> bool:
        """Whether nobody else need be asked about the image."""
        return self.by_reviewer or self.outcome is Outcome.UNUSABLE


@dataclass(frozen=True)
class Resolution:
    """What answers amount to; nothing at all while people are still asked."""

    class_id: int | None = None
    rule: LabelRule | None = None
    certainty: float | None = None
    review_reason: ReviewReason | None = None


def resolve(said: Sequence[Said]) -> Resolution:
    """Return what the answers to an image amount to, once nobody is asked any more."""
    reviewed = [one.class_id for one in said if one.by_reviewer and one.outcome is Outcome.LABEL]
    if reviewed:
        return Resolution(reviewed[-1], LabelRule.REVIEW, 1.0)
    if any(one.outcome is Outcome.UNUSABLE for one in said):
        return _by_majority(said, None)
    unsure = any(one.outcome is Outcome.UNSURE for one in said)
    return _by_majority(said, ReviewReason.UNSURE if unsure else None, ReviewReason.NO_MAJORITY)


def write_label(session: Session, image: Image, resolved: Resolution) -> None:
    """Give a locked image its label; keep the one that it takes the place of."""
    before = image.label_class_id
    image.label_class_id, image.has_human_label = resolved.class_id, resolved.class_id is not None
    image.label_rule, image.label_certainty = resolved.rule, resolved.certainty
    image.review_reason = resolved.review_reason
    if before is None or before == resolved.class_id:
        return
    change = LabelChange(
        project_id=image.project_id,
        image_id=image.id,
        from_class_id=before,
        to_class_id=resolved.class_id,
        rule=resolved.rule,
        certainty=resolved.certainty,
    )
    session.add(change)


def _by_majority(said: Sequence[Said], review: ReviewReason | None, without: ReviewReason | None = None) -> Resolution:
    """Return the majority's class; ``review`` in any case, or else ``without`` a majority."""
    given = Counter(one.class_id for one in said if one.outcome is Outcome.LABEL)
    if not given:
        return Resolution(review_reason=review)
    [(class_id, times)] = given.most_common(1)
    if 2 * times <= given.total():
        return Resolution(review_reason=review or without)
    return Resolution(class_id, LabelRule.MAJORITY, times / given.total(), review)
