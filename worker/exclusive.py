"""Work of which one process at a time does a piece: advisory locks that end with their holder's connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, func, select


@contextmanager
def exclusively(engine: Engine, name: str) -> Iterator[bool]:
    """Hold the lock of that name, if it is free, and yield whether it is held.

    The lock lives as long as its connection, so a process that is killed lets go of it at once.
    """
    key = func.hashtextextended(name, 0)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        held = bool(connection.scalar(select(func.pg_try_advisory_lock(key))))
        try:
            yield held
        finally:
            if held:
                connection.scalar(select(func.pg_advisory_unlock(key)))
