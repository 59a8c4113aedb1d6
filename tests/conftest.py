"""The servers that tests run against: external ones when the URLs are set, else embedded ones for this session.

Tests get a database and a Redis database of their own: ``querent_test_<random>``, dropped at the end, and number 15
(``QUERENT_TEST_REDIS_DATABASE`` names another), emptied at the start. What lies in other databases is not touched.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from redis import Redis
from sqlalchemy import create_engine, make_url, text

from app import embedded
from app.database import Database, upgrade
from app.settings import Settings, load_settings


@pytest.fixture(scope="session")
def servers() -> Iterator[Settings]:
    """Settings whose home is temporary and whose servers run, with databases that hold nothing."""
    with TemporaryDirectory(prefix="querent-tests-") as home, embedded.servers(load_settings(home=home)) as running:
        assert running.database_url
        assert running.redis_url
        with fresh_database(running.database_url) as database_url:
            redis_url = numbered(running.redis_url, redis_number())
            with Redis.from_url(redis_url) as redis:
                redis.flushdb()
            yield running.model_copy(update={"database_url": database_url, "redis_url": redis_url})


@pytest.fixture
def settings(servers: Settings, tmp_path: Path) -> Settings:
    """Settings of one test: the session's servers and a home of its own."""
    return servers.model_copy(update={"home": tmp_path})


@pytest.fixture(scope="session")
def database(servers: Settings) -> Iterator[Database]:
    """The session's database with all tables; tests share it, so each makes what it needs under names of its own."""
    assert servers.database_url
    upgrade(servers.database_url)
    opened = Database(servers.database_url)
    yield opened
    opened.close()


@pytest.fixture
def fresh_home() -> Iterator[Path]:
    """A home for servers of a test's own.

    Not under ``tmp_path``: each start of pytest closes its folder to other accounts, in other sessions' runs too, and
    for root Postgres runs as another account.
    """
    with TemporaryDirectory(prefix="querent-home-") as folder:
        yield Path(folder) / "home"


def redis_number() -> int:
    """Return the number of the Redis database to use; processes that run tests side by side count down from it."""
    process = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    return int(os.environ.get("QUERENT_TEST_REDIS_DATABASE", "15")) - int(process)


@contextmanager
def fresh_database(url: str) -> Iterator[str]:
    """Make a database beside the one that the URL names; yield its URL, drop it at the end."""
    name = f"querent_test_{secrets.token_hex(4)}"
    maintenance = create_engine(url, isolation_level="AUTOCOMMIT")
    with maintenance.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(url).set(database=name).render_as_string(hide_password=False)
    finally:
        with maintenance.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        maintenance.dispose()


def numbered(redis_url: str, number: int) -> str:
    """Return the URL of another of a Redis server's databases."""
    if redis_url.startswith("unix://"):
        return f"{redis_url.partition('?')[0]}?db={number}"
    return re.sub(r"^(rediss?://[^/?]+)(/\d*)?", rf"\1/{number}", redis_url)
