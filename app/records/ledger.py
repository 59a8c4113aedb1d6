"""The ledger of pseudo-labels: every label that a model gave, for ever.

A current pseudo-label never stands beside a human label. The database itself sees to it: ``human_labelled`` copies the
image's flag through a foreign key that cascades, and a check refuses a current entry whose copy is true. So whoever
writes a human label has to supersede the entry first, and an entry over a human label cannot be written at all.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base
from app.records.columns import CreatedAt, Id, Moment

# Why people end an entry; what rounds write is a sentence of its own.
HUMAN_LABEL = "human label"
UNUSABLE = "a person found the image unusable"
UNSURE = "a person was unsure"
DISAGREED = "people disagreed"


class PseudoLabel(Base):
    """One label given by a model to one image; the model says which round gave it.

    ``confidence`` is what the model gave the class when it was written. ``superseded_reason`` is in words for people.
    """

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
        CheckConstraint("(superseded_at IS NULL) = (superseded_reason IS NULL)", name="superseded_for_a_reason"),
        Index("uq_pseudo_labels_current", "image_id", unique=True, postgresql_where="superseded_at IS NULL"),
        # every entry of an image: its history, and what the foreign key above follows when a person labels it
        Index("ix_pseudo_labels_image", "image_id"),
        Index("ix_pseudo_labels_model", "model_id"),
        Index("ix_pseudo_labels_standing", "project_id", "confidence", "id", postgresql_where="superseded_at IS NULL"),
        Index(
            "ix_pseudo_labels_past", "project_id", "superseded_at", "id", postgresql_where="superseded_at IS NOT NULL"
        ),
        Index("ix_pseudo_labels_answered", "project_id", "id", postgresql_where=f"superseded_reason = '{HUMAN_LABEL}'"),
    )

    id: Mapped[Id]
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    image_id: Mapped[int] = mapped_column(BigInteger)
    human_labelled: Mapped[bool] = mapped_column(default=False)
    class_id: Mapped[int]
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    confidence: Mapped[float]
    rule: Mapped[str] = mapped_column(String(40))
    created_at: Mapped[CreatedAt]
    superseded_at: Mapped[Moment]
    superseded_reason: Mapped[str | None]
