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


class Image(Base):
    """One image; ``row`` is its position in the project's arrays and never changes.

    ``label_class_id`` is the label resolved from the annotations; ``has_human_label`` says the same as a flag, because
    the ledger refers to it (see ``app.records.ledger``).
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
    unusable_at: Mapped[Moment]
    created_at: Mapped[CreatedAt]
