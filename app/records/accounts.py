"""Who people are: users and the one-time links that sign them in."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base
from app.records.columns import CreatedAt, Id, Moment, words


class Role(StrEnum):
    """What a user may do; the oracle answers for the simulation and cannot sign in."""

    ADMIN = "admin"
    ANNOTATOR = "annotator"
    ORACLE = "oracle"


class User(Base):
    """A person, or the simulated oracle."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("name = lower(name) AND name <> ''", name="name_is_lower_case"),
        CheckConstraint("role <> 'oracle' OR password_hash IS NULL", name="oracle_has_no_password"),
        Index("uq_users_one_oracle", "role", unique=True, postgresql_where="role = 'oracle'"),
    )

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(80), unique=True)
    role: Mapped[Role] = mapped_column(words(Role))
    group_name: Mapped[str | None] = mapped_column(String(80))  # a class of people, such as experts; lower case
    password_hash: Mapped[str | None] = mapped_column(String(200))
    session_epoch: Mapped[int] = mapped_column(default=0)  # raising it ends all of the user's sessions
    disabled_at: Mapped[Moment]
    created_at: Mapped[CreatedAt]


class SignInLink(Base):
    """A link that signs one user in once; only the token's hash is kept."""

    __tablename__ = "sign_in_links"

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    used_at: Mapped[Moment]
    created_at: Mapped[CreatedAt]
