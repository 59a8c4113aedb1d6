"""Who may label what: memberships of projects."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base
from app.records.columns import CreatedAt, Id, words


class Standing(StrEnum):
    """What a membership says about one person."""

    MEMBER = "member"  # by name
    REMOVED = "removed"  # by name: not even the switch or a group lets this person in
    FORMER = "former"  # was let in by the switch or a group; says nothing about now


class Membership(Base):
    """What was decided about one person in one project; without a row the project's switch and groups decide.

    A row is never deleted, so that an answer that arrives after its person has left is known from a stranger's.
    ``created_at`` is when the standing last changed and ``set_by`` who changed it.
    """

    __tablename__ = "memberships"
    __table_args__ = (UniqueConstraint("project_id", "user_id"), Index("ix_memberships_user", "user_id"))

    id: Mapped[Id]
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    standing: Mapped[Standing] = mapped_column(words(Standing))
    set_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[CreatedAt]
