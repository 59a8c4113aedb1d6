"""What ``querent check`` finds: whether each part that Querent needs is there, and what to do if it is not.

The device is read from what the worker says of itself; torch is not imported here. Starting embedded servers for the
time of a check is for the command to do.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum

import fsspec
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from redis import Redis, RedisError
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from app.database import alembic_config
from app.errors import Unavailable
from app.events import HEARTBEAT_PREFIX, WorkerSeen
from app.settings import DeviceChoice, Settings

CONNECT_SECONDS = 5
OLDEST_POSTGRES = 13


class Part(StrEnum):
    """What can be checked, in the order in which it is."""

    DATABASE = "database"
    MIGRATIONS = "migrations"
    BROKER = "broker"
    WORKER = "worker"
    STORAGE = "storage"
    DEVICE = "device"


NEED_DATABASE = frozenset({Part.DATABASE, Part.MIGRATIONS})
NEED_REDIS = frozenset({Part.BROKER, Part.WORKER, Part.DEVICE})


class State(StrEnum):
    """How a part is."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True)
class Finding:
    """How one part is, why, and what to do about it; nothing is to be done when it is well."""

    part: Part
    state: State
    detail: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        """Return what ``querent check --json`` prints of it."""
        return {"state": self.state, "detail": self.detail, "remedy": self.remedy}


def check(settings: Settings, parts: Collection[Part] = tuple(Part)) -> list[Finding]:
    """Look at these parts, each once, none relying on another; never raises for what is broken."""
    checks: dict[Part, Callable[[Settings], Finding]] = {
        Part.DATABASE: check_database,
        Part.MIGRATIONS: check_migrations,
        Part.BROKER: check_broker,
        Part.WORKER: check_worker,
        Part.STORAGE: check_storage,
        Part.DEVICE: check_device,
    }
    return [checks[part](settings) for part in Part if part in parts]


def require(settings: Settings, parts: Collection[Part]) -> None:
    """Raise Unavailable for the first of these parts that fails."""
    for finding in check(settings, parts):
        if finding.state is State.FAILURE:
            raise Unavailable(finding.part, finding.detail, finding.remedy)


def check_database(settings: Settings) -> Finding:
    """Whether Postgres answers and is new enough."""
    try:
        with _engine(settings).connect() as connection:
            number = int(connection.execute(text("SHOW server_version_num")).scalar_one())
    except SQLAlchemyError as error:
        return _failure(Part.DATABASE, _reason(error), "start PostgreSQL, or correct DATABASE_URL")
    version = f"{number // 10_000}.{number % 10_000}"
    if number // 10_000 < OLDEST_POSTGRES:
        remedy = f"use PostgreSQL {OLDEST_POSTGRES} or newer"
        return _failure(Part.DATABASE, f"PostgreSQL {version} is too old", remedy)
    return Finding(Part.DATABASE, State.OK, f"PostgreSQL {version}")


def check_migrations(settings: Settings) -> Finding:
    """Whether the tables are those of this release."""
    try:
        with _engine(settings).connect() as connection:
            found = set(MigrationContext.configure(connection).get_current_heads())
    except SQLAlchemyError as error:
        return _failure(Part.MIGRATIONS, f"unknown: {_reason(error)}", "mend the database first")
    expected = set(ScriptDirectory.from_config(alembic_config(str(settings.database_url))).get_heads())
    if found == expected:
        return Finding(Part.MIGRATIONS, State.OK, f"at {', '.join(sorted(found)) or 'nothing'}, this release's")
    have = ", ".join(sorted(found)) or "no tables yet"
    remedy = "run `querent migrate`; `querent up` does so when it starts"
    return _failure(Part.MIGRATIONS, f"{have}; this release needs {', '.join(sorted(expected))}", remedy)


def check_broker(settings: Settings) -> Finding:
    """Whether Redis answers and can be written to."""
    try:
        with _redis(settings) as redis:
            redis.set("querent:check", secrets.token_hex(4), ex=10)
            version = dict(redis.info("server"))["redis_version"]
    except RedisError as error:
        return _failure(Part.BROKER, _reason(error), "start Redis, or correct REDIS_URL")
    return Finding(Part.BROKER, State.OK, f"Redis {version}")


def check_worker(settings: Settings) -> Finding:
    """Whether a worker has said within the last seconds that it runs; without one no round does."""
    try:
        workers = _heartbeats(settings)
    except RedisError as error:
        return _failure(Part.WORKER, f"unknown: {_reason(error)}", "mend the broker first")
    if not workers:
        return _failure(Part.WORKER, "not running", "start `querent up` (with Docker: the service `worker`)")
    return Finding(Part.WORKER, State.OK, f"running: {', '.join(seen.name for seen in workers)}")


def check_device(settings: Settings) -> Finding:
    """Where the worker computes, and whether that is where it shall."""
    try:
        workers = _heartbeats(settings)
    except RedisError as error:
        return _failure(Part.DEVICE, f"unknown: {_reason(error)}", "mend the broker first")
    if not workers:
        return Finding(Part.DEVICE, State.WARNING, "unknown: no worker runs that could tell", "start `querent up`")
    seen = workers[0]
    detail = f"{seen.device} ({seen.device_name or 'unnamed'}), {seen.threads} threads, torch {seen.torch}"
    if settings.device is DeviceChoice.CUDA and not seen.device.startswith("cuda"):
        remedy = "install torch for CUDA and its driver, or set QUERENT_DEVICE=auto"
        return _failure(Part.DEVICE, f"QUERENT_DEVICE is cuda, but the worker computes on {detail}", remedy)
    return Finding(Part.DEVICE, State.OK, detail)


def check_storage(settings: Settings) -> Finding:
    """Whether blobs can be written, read and deleted."""
    content = secrets.token_bytes(32)
    remedy = "give the folder to the account that runs Querent, or correct QUERENT_STORAGE_URL"
    try:
        files, root = fsspec.core.url_to_fs(settings.storage)
        path = f"{root}/check-{secrets.token_hex(8)}"
        files.makedirs(root, exist_ok=True)
        files.pipe_file(path, content)
        try:
            returned = files.cat_file(path)
        finally:
            files.rm_file(path)
    except ImportError as error:
        return _failure(Part.STORAGE, str(error), "install the package that it names")
    except (OSError, ValueError) as error:
        return _failure(Part.STORAGE, f"{settings.storage}: {_reason(error)}", remedy)
    if returned != content:
        return _failure(Part.STORAGE, f"{settings.storage}: reading gave not what was written", remedy)
    return Finding(Part.STORAGE, State.OK, settings.storage)


def _heartbeats(settings: Settings) -> list[WorkerSeen]:
    """Return what each living worker says of itself; unlike the bus, which is for pages, tell when Redis is gone."""
    with _redis(settings) as redis:
        keys = sorted(redis.scan_iter(f"{HEARTBEAT_PREFIX}*"))
        values = redis.mget(keys) if keys else []
    return [WorkerSeen(**json.loads(value)) for value in values if value]


def _engine(settings: Settings) -> Engine:
    return create_engine(
        str(settings.database_url), poolclass=NullPool, connect_args={"connect_timeout": CONNECT_SECONDS}
    )


def _redis(settings: Settings) -> Redis:
    return Redis.from_url(
        str(settings.redis_url), socket_connect_timeout=CONNECT_SECONDS, socket_timeout=CONNECT_SECONDS
    )


def _failure(part: Part, detail: str, remedy: str) -> Finding:
    return Finding(part, State.FAILURE, detail, remedy)


def _reason(error: Exception) -> str:
    """Return the first line of what a driver says, without its wrappings."""
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0] or type(error).__name__
