"""The ledger of pseudo-labels: every label that a model gave, for ever.

A current pseudo-label never stands beside a human label. The database itself sees to it: ``human_labelled`` copies the
image's flag through a foreign key that cascades, and a check refuses a current entry whose copy is true. So whoever
writes a human label has to supersede the entry first, and an entry over a human label cannot be written at all.
"""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base
from app.records.columns import CreatedAt, Id, Moment


class PseudoLabel(Base):
    """One label given by a model to one image."""

    __tablename__ = "pseudo_labels"
    __table_args__ = (
        ForeignKeyConstraint(
            ["image_id", "human_labelled"],
            ["images.id", "images.has_human_label"],
            name="fk_pseudo_labels_human_label",
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        ForeignKeyConstraint(["project_id", "class_id"], ["classes.project_id", "classes.id"]),
        CheckConstraint("superseded_at IS NOT NULL OR NOT human_labelled", name="human_label_wins"),
        CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence_is_a_chance"),
        Index("uq_pseudo_labels_current", "image_id", unique=True, postgresql_where="superseded_at IS NULL"),
        Index("ix_pseudo_labels_project", "project_id", postgresql_where="superseded_at IS NULL"),
    )

    id: Mapped[Id]
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    image_id: Mapped[int]
    human_labelled: Mapped[bool] = mapped_column(default=False)
    class_id: Mapped[int]
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    confidence: Mapped[float]
    rule: Mapped[str] = mapped_column(String(40))
    created_at: Mapped[CreatedAt]
    superseded_at: Mapped[Moment]
    superseded_reason: Mapped[str | None]
