"""The engine, sessions and migrations: how a process talks to Postgres.

``Database.transaction`` opens a session that rolls back unless whoever opened it commits; after the commit the
messages that services buffered are handed to the courier. What the tables are is for ``app.records`` to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import MetaData, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from app.outbox import Courier, Message, take_messages

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


class Base(DeclarativeBase):
    """Declarative base; the naming convention gives every constraint a stable name for migrations."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def discard(messages: Sequence[Message]) -> None:
    """Courier of processes that tell nobody, such as tests of services."""


class Database:
    """One engine and the sessions made from it.

    Args:
        url: a ``postgresql+psycopg://`` URL.
        courier: takes the messages of each committed transaction; must not raise.
        connections: most connections that this process keeps open.
    """

    def __init__(self, url: str, courier: Courier = discard, connections: int = 20) -> None:
        # pre-ping: a connection that a restarted server has cut is replaced instead of failing one request
        self.engine = create_engine(url, pool_pre_ping=True, pool_size=connections, max_overflow=connections)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        event.listen(self._sessions, "after_commit", lambda session: courier(take_messages(session)))
        event.listen(self._sessions, "after_rollback", take_messages)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open a session; commit it explicitly, or everything done in it is rolled back."""
        with self._sessions() as session:
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def alembic_config(url: str) -> Config:
    """Return Alembic's configuration for this package's migrations on the given database."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def upgrade(url: str) -> None:
    """Bring the database's tables to this release; harmless when they are."""
    from alembic import command

    command.upgrade(alembic_config(url), "head")
