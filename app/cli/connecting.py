"""What a command works with: the servers of its home, the database and the line to open pages and the worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.database import Database, upgrade
from app.embedded import servers
from app.events import Bus
from app.settings import Settings, load_settings


@dataclass(frozen=True)
class Connected:
    """Settings that name the running servers, and what speaks to them."""

    settings: Settings
    database: Database
    bus: Bus


@contextmanager
def connected(home: Path | None) -> Iterator[Connected]:
    """Use the servers that run, or embedded ones for as long as this is open; the tables are there.

    Raises:
        BadInput: a setting is wrong.
        Unavailable: a server cannot be started.
    """
    with ExitStack() as stack:
        settings = stack.enter_context(servers(load_settings(home=home)))
        upgrade(str(settings.database_url))
        bus = Bus(str(settings.redis_url))
        stack.callback(bus.close)
        database = Database(str(settings.database_url), bus.deliver)
        stack.callback(database.close)
        yield Connected(settings, database, bus)
