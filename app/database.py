"""The engine, sessions and migrations: how a process talks to Postgres.

``Database.transaction`` opens a session that rolls back unless whoever opened it commits; after the commit the
messages that services buffered are handed to the courier. What the tables are is for ``app.records`` to say.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, MetaData, create_engine, event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from app.outbox import Courier, Message, take_messages

if TYPE_CHECKING:
    from alembic.config import Config

PING_AFTER_SECONDS = 1.0
_RESTED_SINCE = "rested since"

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
        self.engine = create_engine(url, pool_size=connections, max_overflow=connections)
        _ping_after_rest(self.engine)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        event.listen(self._sessions, "after_commit", lambda session: courier(take_messages(session)))
        event.listen(self._sessions, "after_rollback", take_messages)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open a session; commit it explicitly, or everything done in it is rolled back."""
        with self._sessions() as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a session whose statements are no transaction: for a page that reads with one.

        It saves two round trips, which is two thirds of such a page. Each statement sees the data of its own moment.
        """
        with self._sessions() as session:
            session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            yield session

    @contextmanager
    def unchanging(self) -> Iterator[Session]:
        """Open a session that only reads and whose statements all see the data of the first one's moment."""
        with self._sessions() as session:
            session.connection(execution_options={"isolation_level": "REPEATABLE READ", "postgresql_readonly": True})
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _ping_after_rest(engine: Engine) -> None:
    """Replace a connection that a restarted server has cut, instead of failing one request.

    SQLAlchemy's own pre-ping asks at every use, three times for an answer; here only a connection that has rested is
    asked, since one that fails in use has the whole pool replaced.
    """

    @event.listens_for(engine, "checkin")
    def note(_connection: object, record: ConnectionPoolEntry) -> None:
        record.info[_RESTED_SINCE] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def ping(connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
        if time.monotonic() - record.info.get(_RESTED_SINCE, math.inf) < PING_AFTER_SECONDS:
            return
        try:
            alive = engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError("the server has cut this connection") from error
        if not alive:
            raise InvalidatePoolError("the server has cut this connection")


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
