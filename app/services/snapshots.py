"""What a round learns from: the labels and candidates as they are now, as array rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session

from app.records import Annotation, Image, Lease, Outcome, Project, Query, QuerySource, Split
from app.services import ledger
from app.services.ledger import Entries
from app.services.queue import awaits_review, drawn_by_chance, standing


@dataclass(frozen=True)
class SnapshotRows:
    """What a round learns from: array rows and class ids, ascending by row.

    ``candidates`` are the rows of the pool that may be asked about, labelled by a model or not; ``unlabelled_test`` are
    test images without a known class, which people are asked about first. ``drawn`` are the labelled rows that people
    were asked about by a uniform draw from the pool, ``pseudo`` the labels of models that stand. ``is_spent`` says that
    the budget covers no further image. ``last_annotation_id`` is the latest answer that was there.
    """

    class_ids: list[int]
    labelled: list[tuple[int, int]]
    test: list[tuple[int, int]]
    candidates: list[int]
    unlabelled_test: list[int]
    drawn: frozenset[int]
    pseudo: Entries
    is_spent: bool
    last_annotation_id: int


def read_snapshot(
    session: Session, project: Project, class_ids: Iterable[int], *, with_ledger: bool = True
) -> SnapshotRows:
    """Read the labels as they are now, those of models only ``with_ledger``.

    Test images take their imported truth, else the label that people gave; neither is ever trained on. Images that
    somebody holds are no candidates; those that a model has labelled are, since a human label always wins.
    """
    of_project, free = Image.project_id == project.id, _free(project.id)
    known = func.coalesce(Image.true_class_id, Image.label_class_id)
    ids = list(class_ids)
    labelled = session.execute(
        select(Image.row, func.coalesce(Image.label_class_id, 0))
        .where(of_project, Image.has_human_label, Image.split == Split.POOL, Image.label_class_id.in_(ids))
        .order_by(Image.row)
    )
    test = session.execute(
        select(Image.row, known).where(of_project, Image.split == Split.TEST, known.in_(ids)).order_by(Image.row)
    )
    candidates = session.scalars(select(Image.row).where(*free, Image.split == Split.POOL).order_by(Image.row))
    unlabelled_test = session.scalars(
        select(Image.row).where(*free, ~_is_asked(), Image.split == Split.TEST, known.is_(None)).order_by(Image.row)
    )
    return SnapshotRows(
        class_ids=ids,
        labelled=[(row, class_id) for row, class_id in labelled],
        test=[(row, class_id) for row, class_id in test],
        candidates=list(candidates),
        unlabelled_test=list(unlabelled_test),
        drawn=_drawn(session, project.id),
        pseudo=ledger.read_standing(session, project.id, ids) if with_ledger else Entries(),
        is_spent=project.is_spent,
        last_annotation_id=latest_annotation_id(session, project.id),
    )


def has_candidates(session: Session, project_id: int) -> bool:
    """Say whether a round that began now would find an image of the pool to ask about."""
    found = select(Image.id).where(*_free(project_id), Image.split == Split.POOL)
    return session.scalar(found.limit(1)) is not None


def latest_annotation_id(session: Session, project_id: int) -> int:
    """Return the latest answer's id, 0 if there is none; answers take turns, so all before it are there too."""
    return session.scalar(select(func.max(Annotation.id)).where(Annotation.project_id == project_id)) or 0


def _is_asked() -> ColumnElement[bool]:
    return exists().where(Query.image_id == Image.id, Query.closed_at.is_(None), Query.superseded_at.is_(None))


def _free(project_id: int) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions under which an image may be asked about by the next ranking."""
    skipped = exists().where(Annotation.image_id == Image.id, Annotation.outcome == Outcome.SKIP, *standing())
    held = exists().where(Query.image_id == Image.id, Lease.query_id == Query.id, ~Lease.is_check)
    return (
        Image.project_id == project_id,
        ~Image.has_human_label,
        Image.gold_class_id.is_(None),
        Image.unusable_at.is_(None),
        ~held,
        ~(_is_asked() & skipped),
        ~awaits_review(),
    )


def _drawn(session: Session, project_id: int) -> frozenset[int]:
    """Return the rows of labelled images about which people were asked by uniform draws from the pool only.

    What a reviewer decided about such an image still is the label of a draw: without it, hard images would be missing.
    """
    labelled = (
        select(Image.row)
        .join(Annotation, Annotation.image_id == Image.id)
        .join(Query, Query.id == Annotation.query_id)
        .where(Image.project_id == project_id, Image.has_human_label, Image.split == Split.POOL)
        .where(Annotation.outcome.in_((Outcome.LABEL, Outcome.UNSURE)), Query.source != QuerySource.REVIEW, *standing())
        .group_by(Image.row)
        .having(func.bool_and(drawn_by_chance()))
    )
    return frozenset(session.scalars(labelled))
