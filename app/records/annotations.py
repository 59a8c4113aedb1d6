"""What people answered: append-only, an undo is a revocation."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, Uuid, false
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base
from app.records.columns import CreatedAt, Id, Moment, words


class Outcome(StrEnum):
    """What an answer says: a class, or one of three different ways of not giving one."""

    LABEL = "label"
    SKIP = "skip"  # somebody else should answer
    UNSURE = "unsure"  # a reviewer should decide
    UNUSABLE = "unusable"  # nobody can label this image


class UnusableReason(StrEnum):
    """Why nobody can label an image."""

    BLURRED = "blurred"
    NO_CLASS = "no class"  # it shows none of the classes
    SEVERAL_CLASSES = "several classes"
    BROKEN = "broken"  # cut off, empty, or not shown at all
    OTHER = "other"


class Annotation(Base):
    """One answer of one person to one query.

    ``client_id`` is made by whoever answers, so that the same answer sent twice is one annotation. An answer that came
    after its lease had passed on is kept with ``counted`` false: nothing is lost, nothing is counted twice. A
    correction is an annotation of its own that names the one it replaces, which is revoked. An answer to a check (gold
    or a hidden repeat) says ``is_check`` and is never counted, so nothing that reads labels can meet it.
    """

    __tablename__ = "annotations"
    __table_args__ = (
        CheckConstraint("(outcome = 'label') = (class_id IS NOT NULL)", name="label_has_class"),
        CheckConstraint("seconds_taken >= 0", name="time_runs_forward"),
        CheckConstraint("reason IS NULL OR outcome = 'unusable'", name="reason_is_of_unusable"),
        CheckConstraint("NOT (is_check AND counted)", name="check_never_counts"),
        ForeignKeyConstraint(["project_id", "class_id"], ["classes.project_id", "classes.id"]),
        Index(
            "uq_annotations_one_answer",
            "query_id",
            "user_id",
            unique=True,
            postgresql_where="revoked_at IS NULL AND counted",
        ),
        Index(
            "uq_annotations_one_check",
            "query_id",
            "user_id",
            unique=True,
            postgresql_where="revoked_at IS NULL AND is_check",
        ),
        Index("ix_annotations_checks", "project_id", "user_id", "id", postgresql_where="is_check"),
        Index("ix_annotations_of_person", "user_id", "image_id", postgresql_where="revoked_at IS NULL AND counted"),
        Index("ix_annotations_latest", "project_id", "user_id", "id"),
        Index("ix_annotations_project", "project_id", "id"),
        Index("ix_annotations_image", "image_id"),
        Index("ix_annotations_corrects", "corrects_id", postgresql_where="corrects_id IS NOT NULL"),
    )

    id: Mapped[Id]
    client_id: Mapped[UUID] = mapped_column(Uuid, unique=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    query_id: Mapped[int] = mapped_column(ForeignKey("queries.id", ondelete="CASCADE"))
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"))
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    outcome: Mapped[Outcome] = mapped_column(words(Outcome))
    class_id: Mapped[int | None]
    reason: Mapped[UnusableReason | None] = mapped_column(words(UnusableReason))
    seconds_taken: Mapped[float | None]
    saw_prediction: Mapped[bool] = mapped_column(default=False)  # the person was shown what the network believes
    in_cluster: Mapped[bool] = mapped_column(default=False, server_default=false())  # among images that look alike
    corrects_id: Mapped[int | None] = mapped_column(ForeignKey("annotations.id"))
    counted: Mapped[bool] = mapped_column(default=True)
    is_check: Mapped[bool] = mapped_column(default=False, server_default=false())
    created_at: Mapped[CreatedAt]
    revoked_at: Mapped[Moment]
