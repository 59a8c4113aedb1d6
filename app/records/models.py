"""The networks that rounds fitted: weights by content hash, and what they were fitted on."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base
from app.records.columns import CreatedAt, Id, Json


class Model(Base):
    """One fitted network; ``classes`` lists class ids in the order of its outputs."""

    __tablename__ = "models"
    __table_args__ = (Index("ix_models_project", "project_id", "id"),)

    id: Mapped[Id]
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    round_id: Mapped[int] = mapped_column(ForeignKey("rounds.id", ondelete="CASCADE"), unique=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("models.id", ondelete="SET NULL"))
    weights_hash: Mapped[str] = mapped_column(String(64))
    network: Mapped[Json]
    classes: Mapped[list[Any]] = mapped_column(JSONB)
    metrics: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    created_at: Mapped[CreatedAt]
