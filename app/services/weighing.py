"""Weighing: the labels of images with several answers, made anew by the project's rule when a round starts.

By the annotator model, each answer weighs as much as its person's answers are worth; answers to gold images tell that
too. By majority, labels that the model had made become the majority's again. 100,000 answers take ten seconds, so the
worker does it: ``read`` in one transaction, ``weigh`` in none, ``apply`` in short ones that leave out what has been
answered meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import ColumnElement, exists, func, or_, select
from sqlalchemy.orm import Session

from app.errors import NotFound
from app.outbox import EventKind, announce
from app.records import (
    CHECKS,
    Annotation,
    Class,
    Image,
    LabelRule,
    Outcome,
    Project,
    Query,
    QuerySource,
    ReviewReason,
)
from app.services.agreement import Said as Words
from app.services.annotator_model import fit
from app.services.locks import lock_project
from app.services.queue import standing
from app.services.resolving import Resolution, Said, resolve, write_label

AT_ONCE = 500  # images to a transaction: answers wait for the project's row meanwhile
DIGITS = 4  # of a certainty; less of a difference is none


@dataclass(frozen=True)
class Answered:
    """An image with its standing answers in order; ``last_id`` tells whether there are others by now."""

    image_id: int
    last_id: int
    said: tuple[Said, ...]
    words: Words  # the class that each person gave


@dataclass(frozen=True)
class Weighable:
    """What there is to weigh in a project, and how."""

    project_id: int
    rule: LabelRule
    review_below: float
    class_ids: tuple[int, ...]
    images: tuple[Answered, ...]
    known: tuple[tuple[Words, int], ...]  # what people said of gold images, and what is right


@dataclass(frozen=True)
class Weighed:
    """What an image's answers amount to."""

    image_id: int
    last_id: int
    resolution: Resolution


def read(session: Session, project_id: int) -> Weighable:
    """Read what there is to weigh: images that nobody is asked about and no reviewer has decided about."""
    project = session.get(Project, project_id)
    if project is None:
        raise NotFound(f"project {project_id}", "there is no such project", "choose one from the list of projects")
    by_model = project.label_rule is LabelRule.ANNOTATOR_MODEL
    classes = select(Class.id).where(Class.project_id == project_id).order_by(Class.position)
    return Weighable(
        project_id=project_id,
        rule=project.label_rule,
        review_below=project.review_below,
        class_ids=tuple(session.scalars(classes)),
        images=tuple(_images(session, project_id, _several() if by_model else _made_by_model())),
        known=tuple(_known(session, project_id)) if by_model else (),
    )


def weigh(weighable: Weighable) -> list[Weighed]:
    """Return what the answers amount to, by the project's rule."""
    images = weighable.images
    if not images:
        return []
    if weighable.rule is LabelRule.MAJORITY:
        return [Weighed(each.image_id, each.last_id, resolve(each.said)) for each in images]
    found = fit([each.words for each in images], weighable.class_ids, weighable.known)
    return [
        Weighed(each.image_id, each.last_id, _judged(each, chances, weighable.review_below))
        for each, chances in zip(images, found.chances, strict=True)
    ]


def batches(weighed: Sequence[Weighed]) -> Iterator[list[Weighed]]:
    """Return what was weighed in parts that one transaction can write."""
    rest = iter(weighed)
    while part := list(islice(rest, AT_ONCE)):
        yield part


def apply(session: Session, project_id: int, weighed: Sequence[Weighed]) -> int:
    """Write labels; return how many images they changed. Images that were answered meanwhile are left as they are."""
    project = lock_project(session, project_id)
    wanted = {each.image_id: each for each in weighed}
    now_last = dict(
        session.execute(
            select(Annotation.image_id, func.max(Annotation.id))
            .where(Annotation.image_id.in_(wanted), *standing())
            .group_by(Annotation.image_id)
        ).all()
    )
    images = session.scalars(
        select(Image)
        .where(Image.id.in_(wanted), Image.unusable_at.is_(None), ~_is_asked())
        .order_by(Image.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    changed = 0
    for image in images:
        each = wanted[image.id]
        if now_last.get(image.id) == each.last_id and _as_it_is(image) != each.resolution:
            write_label(session, image, each.resolution)
            changed += 1
    session.flush()
    if changed:
        announce(session, project_id, EventKind.LABELS, labels_used=project.labels_used)
    return changed


def _judged(answered: Answered, chances: Mapping[int, float], review_below: float) -> Resolution:
    """Return the likeliest class, if it is likelier than all others together."""
    class_id = max(chances, key=lambda known: chances[known])
    certainty = min(1.0, round(chances[class_id], DIGITS))
    unsure = any(one.outcome is Outcome.UNSURE for one in answered.said)
    doubted = ReviewReason.UNCERTAIN if certainty < review_below or certainty <= 0.5 else None
    review = ReviewReason.UNSURE if unsure else doubted
    if certainty <= 0.5:
        return Resolution(review_reason=review)
    return Resolution(class_id, LabelRule.ANNOTATOR_MODEL, certainty, review)


def _as_it_is(image: Image) -> Resolution:
    return Resolution(image.label_class_id, image.label_rule, image.label_certainty, image.review_reason)


def _several() -> ColumnElement[bool]:
    """Return the condition that several people gave an image a class."""
    given = (
        select(func.count(Annotation.user_id.distinct()))
        .where(Annotation.image_id == Image.id, Annotation.outcome == Outcome.LABEL, *standing())
        .scalar_subquery()
    )
    return given > 1


def _made_by_model() -> ColumnElement[bool]:
    return or_(
        Image.has_human_label & (Image.label_rule == LabelRule.ANNOTATOR_MODEL),
        Image.review_reason == ReviewReason.UNCERTAIN,
    )


def _is_asked() -> ColumnElement[bool]:
    return exists().where(Query.image_id == Image.id, Query.closed_at.is_(None), Query.source.not_in(CHECKS))


def _images(session: Session, project_id: int, condition: ColumnElement[bool]) -> Iterator[Answered]:
    """Return images with their answers; those in question have a label, or wait for a reviewer."""
    settled = or_(Image.has_human_label, Image.review_reason.is_not(None))
    wanted = select(Image.id).where(
        Image.project_id == project_id,
        settled,
        condition,
        Image.unusable_at.is_(None),
        Image.label_rule.is_distinct_from(LabelRule.REVIEW),
        ~_is_asked(),
    )
    answers: dict[int, list[Annotation]] = defaultdict(list)
    given = select(Annotation).where(Annotation.image_id.in_(wanted), *standing()).order_by(Annotation.id)
    for each in session.scalars(given):
        answers[each.image_id].append(each)
    for image_id, of_image in sorted(answers.items()):
        yield Answered(
            image_id=image_id,
            last_id=of_image[-1].id,
            said=tuple(Said(each.outcome, each.class_id) for each in of_image),
            words={each.user_id: each.class_id for each in of_image if each.class_id is not None},
        )


def _known(session: Session, project_id: int) -> Iterator[tuple[Words, int]]:
    """Return what people said of gold images; who took an answer back said nothing."""
    rows = session.execute(
        select(Annotation.user_id, Annotation.class_id, Image.gold_class_id)
        .join(Query, Query.id == Annotation.query_id)
        .join(Image, Image.id == Annotation.image_id)
        .where(Annotation.project_id == project_id, Annotation.is_check, Annotation.revoked_at.is_(None))
        .where(Query.source == QuerySource.GOLD, Annotation.outcome == Outcome.LABEL, Image.gold_class_id.is_not(None))
        .order_by(Annotation.id)
    )
    for user_id, class_id, gold_class_id in rows:
        if class_id is not None and gold_class_id is not None:
            yield {user_id: class_id}, gold_class_id
