"""What a round learns from: the labels and candidates as they are now, as array rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from app.records import Annotation, Image, Lease, Outcome, Project, Query, Split
from app.services.queue import awaits_review, standing


@dataclass(frozen=True)
class SnapshotRows:
    """What a round learns from: array rows and class ids, ascending by row.

    ``candidates`` are the rows of the pool that may be asked about; ``unlabelled_test`` are test images without a
    known class, which people are asked about first.
    """

    class_ids: list[int]
    labelled: list[tuple[int, int]]
    test: list[tuple[int, int]]
    candidates: list[int]
    unlabelled_test: list[int]


def read_snapshot(session: Session, project: Project, class_ids: Iterable[int]) -> SnapshotRows:
    """Read the labels as they are now.

    Test images take their imported truth, else the label that people gave; neither is ever trained on.
    """
    of_project = Image.project_id == project.id
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
    asked = exists().where(Query.image_id == Image.id, Query.closed_at.is_(None), Query.superseded_at.is_(None))
    skipped = exists().where(Annotation.image_id == Image.id, Annotation.outcome == Outcome.SKIP, *standing())
    held = exists().where(Query.image_id == Image.id, Lease.query_id == Query.id)
    free = (
        of_project,
        ~Image.has_human_label,
        Image.unusable_at.is_(None),
        ~held,
        ~(asked & skipped),
        ~awaits_review(),
    )
    candidates = session.scalars(select(Image.row).where(*free, Image.split == Split.POOL).order_by(Image.row))
    unlabelled_test = session.scalars(
        select(Image.row).where(*free, ~asked, Image.split == Split.TEST, known.is_(None)).order_by(Image.row)
    )
    return SnapshotRows(
        class_ids=ids,
        labelled=[(row, class_id) for row, class_id in labelled],
        test=[(row, class_id) for row, class_id in test],
        candidates=list(candidates),
        unlabelled_test=list(unlabelled_test),
    )
