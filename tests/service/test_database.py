"""Sessions and their connections: what rolls back, what reads, and what becomes of connections that were cut."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, text

import app.database
from app.database import Database
from app.records import User
from app.settings import Settings
from tests.factories import make_user


@pytest.fixture
def one(settings: Settings, database: Database) -> Database:
    """A database of one connection, so that each session gets the one before's."""
    return Database(str(settings.database_url), connections=1)


def backend(opened: Database) -> int:
    with opened.transaction() as session:
        found: int = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
    return found


def cut(database: Database, process_id: int) -> None:
    with database.transaction() as session:
        session.execute(text("SELECT pg_terminate_backend(:id, 5000)"), {"id": process_id})


def test_a_connection_that_was_cut_while_it_rested_is_replaced_unnoticed(
    one: Database, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.database, "PING_AFTER_SECONDS", 0.0)
    before = backend(one)
    cut(database, before)
    assert backend(one) != before
    one.close()


def test_a_connection_that_rested_for_a_moment_only_is_not_asked(one: Database) -> None:
    asked: list[object] = []
    ping = one.engine.dialect.do_ping
    one.engine.dialect.do_ping = lambda connection: asked.append(connection) or ping(connection)  # type: ignore[method-assign,func-returns-value]
    backend(one)
    backend(one)
    assert asked == []
    one.close()


def test_reading_takes_no_transaction_and_leaves_the_connection_as_it_was(one: Database) -> None:
    with one.reading() as session:
        first = session.scalar(select(func.txid_current()))
        assert session.scalar(select(func.txid_current())) != first
    with one.transaction() as session:
        user = make_user(session)
    with one.transaction() as session:
        assert session.get(User, user.id) is None, "what was not committed is rolled back as ever"
    one.close()


def test_what_is_unchanging_sees_one_moment_and_writes_nothing(one: Database, database: Database) -> None:
    with one.unchanging() as session:
        count = session.scalar(select(func.count()).select_from(User))
        with database.transaction() as other:
            make_user(other)
            other.commit()
        assert session.scalar(select(func.count()).select_from(User)) == count
        with pytest.raises(Exception, match="read-only transaction"):
            session.execute(text("UPDATE users SET name = name"))
    with one.transaction() as session:
        session.execute(text("UPDATE users SET name = name"))
    one.close()
