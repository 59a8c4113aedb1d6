"""The images of a project: where their bytes are, which split they are in, and the label they have now."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base
from app.records.columns import CreatedAt, Id, Moment, words


class Split(StrEnum):
    """What an image is for: to be asked about, to decide when to stop fitting, or to measure accuracy."""

    POOL = "pool"
    VALIDATION = "validation"
    TEST = "test"


class LabelRule(StrEnum):
    """Who or what made a label out of the answers to an image."""

    MAJORITY = "majority"  # more than half of those who gave a class
    ANNOTATOR_MODEL = "annotator model"  # Dawid and Skene 1979: answers weighed by how well each person does
    REVIEW = "review"  # an admin decided


class ReviewReason(StrEnum):
    """Why an image waits for a reviewer."""

    UNSURE = "unsure"  # somebody could not tell
    NO_MAJORITY = "no majority"
    UNCERTAIN = "uncertain"  # the annotator model is not sure enough


class Image(Base):
    """One image; ``row`` is its position in the project's arrays and never changes.

    ``label_class_id`` is the label resolved from the annotations; ``has_human_label`` says the same as a flag, because
    the ledger refers to it (see ``app.records.ledger``). ``label_rule`` and ``label_certainty`` say how it was
    resolved: the certainty is the share of those who gave a class, the model's chance, or 1 by review.
    """

    __tablename__ = "images"
    __table_args__ = (
        UniqueConstraint("project_id", "row"),
        UniqueConstraint("project_id", "content_hash"),
        UniqueConstraint("id", "has_human_label"),
        CheckConstraint("has_human_label = (label_class_id IS NOT NULL)", name="flag_follows_label"),
        ForeignKeyConstraint(["project_id", "label_class_id"], ["classes.project_id", "classes.id"]),
        ForeignKeyConstraint(["project_id", "true_class_id"], ["classes.project_id", "classes.id"]),
        Index("ix_images_labelled", "project_id", "row", postgresql_where="has_human_label"),
        ForeignKeyConstraint(["project_id", "gold_class_id"], ["classes.project_id", "classes.id"]),
        CheckConstraint("label_certainty BETWEEN 0 AND 1", name="certainty_is_a_chance"),
        Index("ix_images_review", "project_id", "row", postgresql_where="review_reason IS NOT NULL"),
        Index("ix_images_gold", "project_id", "row", postgresql_where="gold_class_id IS NOT NULL"),
        Index("ix_images_held_out", "project_id", "split", postgresql_where="split <> 'pool'"),
    )

    id: Mapped[Id]
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    import_id: Mapped[int | None] = mapped_column(ForeignKey("imports.id", ondelete="SET NULL"))
    row: Mapped[int]
    content_hash: Mapped[str] = mapped_column(String(64))  # sha256 of the stored file, its name in storage
    name: Mapped[str]  # where it came from, for people
    width: Mapped[int]
    height: Mapped[int]
    grey: Mapped[bool]
    split: Mapped[Split] = mapped_column(words(Split))
    true_class_id: Mapped[int | None]  # imported truth, hidden from annotators
    label_class_id: Mapped[int | None]
    has_human_label: Mapped[bool] = mapped_column(default=False)
    label_rule: Mapped[LabelRule | None] = mapped_column(words(LabelRule))
    label_certainty: Mapped[float | None]
    review_reason: Mapped[ReviewReason | None] = mapped_column(words(ReviewReason))
    gold_class_id: Mapped[int | None]  # the known answer, where the image checks people; nobody is asked otherwise
    unusable_at: Mapped[Moment]
    created_at: Mapped[CreatedAt]


class LabelChange(Base):
    """A label that took the place of another one, or ended without one; append-only.

    The first label of an image is no change, and what each person said stands in the annotations.
    """

    __tablename__ = "label_changes"
    __table_args__ = (
        ForeignKeyConstraint(["project_id", "from_class_id"], ["classes.project_id", "classes.id"]),
        ForeignKeyConstraint(["project_id", "to_class_id"], ["classes.project_id", "classes.id"]),
        CheckConstraint("from_class_id IS DISTINCT FROM to_class_id", name="something_changed"),
        Index("ix_label_changes_image", "image_id", "id"),
        Index("ix_label_changes_project", "project_id", "id"),
    )

    id: Mapped[Id]
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"))
    from_class_id: Mapped[int]
    to_class_id: Mapped[int | None]
    rule: Mapped[LabelRule | None] = mapped_column(words(LabelRule))
    certainty: Mapped[float | None]
    created_at: Mapped[CreatedAt]
