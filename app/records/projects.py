"""What is being labeled and how: projects, their classes, and imports of images into them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, String, UniqueConstraint, false
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.database import Base
from app.records.columns import CreatedAt, Id, Json, Moment, words
from app.records.images import LabelRule


class ProjectState(StrEnum):
    """Whether the loop turns: paused keeps everything, hands out nothing and starts no round."""

    PAUSED = "paused"
    RUNNING = "running"


class OracleKind(StrEnum):
    """Who answers the queries."""

    HUMAN = "human"
    SIMULATED = "simulated"


class ImportState(StrEnum):
    """How far an import is."""

    REQUESTED = "requested"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class ReasonsShown(StrEnum):
    """Whether the card "Why this image?" may be opened while labeling."""

    WHEN_ALONE = "when alone"  # only while one answer an image is wanted: several people answer blind
    ALWAYS = "always"
    NEVER = "never"


class Project(Base):
    """A pool of images, the classes they may get, and the recipe by which the network learns and asks.

    ``labels_used`` and ``image_count`` are counters kept by the services under this row's lock.
    """

    __tablename__ = "projects"
    __table_args__ = (
        CheckConstraint("budget >= 1", name="budget_is_positive"),
        CheckConstraint("labels_used BETWEEN 0 AND budget", name="labels_within_budget"),
        CheckConstraint("overlap BETWEEN 1 AND 100", name="overlap_is_positive"),
        CheckConstraint("oracle_noise BETWEEN 0 AND 1", name="oracle_noise_is_a_share"),
        CheckConstraint("gold_share BETWEEN 0 AND 0.5", name="gold_share_is_at_most_half"),
        CheckConstraint("repeat_share BETWEEN 0 AND 0.5", name="repeat_share_is_at_most_half"),
        CheckConstraint("review_below BETWEEN 0 AND 1", name="review_below_is_a_chance"),
    )

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(120), unique=True)
    description: Mapped[str] = mapped_column(default="")
    state: Mapped[ProjectState] = mapped_column(words(ProjectState), default=ProjectState.PAUSED)
    oracle: Mapped[OracleKind] = mapped_column(words(OracleKind), default=OracleKind.HUMAN)
    oracle_noise: Mapped[float] = mapped_column(default=0.0)
    recipe: Mapped[Json]
    budget: Mapped[int]
    overlap: Mapped[int] = mapped_column(default=1)
    labels_used: Mapped[int] = mapped_column(default=0)
    image_count: Mapped[int] = mapped_column(default=0)
    classes_version: Mapped[int] = mapped_column(default=1)  # counts changes of names and keys
    action_keys: Mapped[Json] = mapped_column(default=dict)  # keys of answers that give no class, where an admin chose
    reasons_shown: Mapped[ReasonsShown] = mapped_column(words(ReasonsShown), default=ReasonsShown.WHEN_ALONE)
    open_to_all: Mapped[bool] = mapped_column(default=True, server_default="true")  # newcomers are members as well
    member_groups: Mapped[list[str]] = mapped_column(ARRAY(String(80)), default=list, server_default="{}")
    # how the label of an image with several answers is made, and below which certainty a reviewer decides
    label_rule: Mapped[LabelRule] = mapped_column(
        words(LabelRule), default=LabelRule.MAJORITY, server_default="majority"
    )
    review_below: Mapped[float] = mapped_column(default=0.8, server_default="0.8")
    # of what a person is shown: images with known answers, and images that they labelled before
    gold_share: Mapped[float] = mapped_column(default=0.0, server_default="0")
    gold_feedback: Mapped[bool] = mapped_column(default=False, server_default=false())
    repeat_share: Mapped[float] = mapped_column(default=0.0, server_default="0")
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[CreatedAt]

    classes: Mapped[list[Class]] = relationship(order_by="Class.position", viewonly=True)

    @property
    def is_spent(self) -> bool:
        """Whether the labels left do not cover the answers that one image wants."""
        return self.budget - self.labels_used < self.overlap

    @property
    def shows_reasons(self) -> bool:
        """Whether people may see why an image is asked, which tells what the network believes."""
        if self.reasons_shown is ReasonsShown.WHEN_ALONE:
            return self.overlap == 1
        return self.reasons_shown is ReasonsShown.ALWAYS


class Class(Base):
    """What an image can be labelled as; renamed or retired, never deleted."""

    __tablename__ = "classes"
    __table_args__ = (
        UniqueConstraint("project_id", "name"),
        UniqueConstraint("project_id", "id"),  # what rows of the same project refer to
        UniqueConstraint("project_id", "position"),
        Index("uq_classes_key", "project_id", "key", unique=True, postgresql_where="retired_at IS NULL"),
    )

    id: Mapped[Id]
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(120))
    key: Mapped[str | None] = mapped_column(String(1))  # the key that labels; None beyond the keyboard
    position: Mapped[int]
    retired_at: Mapped[Moment]
    created_at: Mapped[CreatedAt]


class Import(Base):
    """One bringing of images into a project, by the worker; resumable, since what is there is skipped."""

    __tablename__ = "imports"
    __table_args__ = (
        ForeignKeyConstraint(["project_id"], ["projects.id"], ondelete="CASCADE"),
        Index("ix_imports_open", "id", postgresql_where="state IN ('requested', 'running')"),
        Index("ix_imports_project", "project_id", "id"),
    )

    id: Mapped[Id]
    project_id: Mapped[int]
    source: Mapped[Json]  # which adapter reads it, and what that needs
    state: Mapped[ImportState] = mapped_column(words(ImportState), default=ImportState.REQUESTED)
    total: Mapped[int | None]  # images found, once known
    imported: Mapped[int] = mapped_column(default=0)
    duplicates: Mapped[int] = mapped_column(default=0)
    broken: Mapped[int] = mapped_column(default=0)
    failures: Mapped[list[Any]] = mapped_column(JSONB, default=list)  # the first broken files, each with its reason
    error: Mapped[str | None]
    start_when_done: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[Moment]
