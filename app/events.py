"""Redis: tasks to the worker, changes to open pages, and the worker's sign of life.

Redis is never needed to save an answer. Whatever cannot be delivered is dropped with a warning: the row of a requested
round stays in Postgres and the sweep sends its task again, and a page reads the state anew when it reconnects.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import redis
import redis.asyncio
from celery import Celery
from kombu.exceptions import KombuError, OperationalError
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.outbox import Event, EventKind, Message, Task

log = logging.getLogger(__name__)

CONNECT_SECONDS = 0.5
PAUSE_SECONDS = 1.0  # after a failure nothing is tried for so long, so that answers do not wait for a dead Redis
KEEP_ALIVE_SECONDS = 10.0
HEARTBEAT_PREFIX = "querent:worker:"
HEARTBEAT_SECONDS = 5
HEARTBEAT_LIFETIME_SECONDS = 15


def broker_options() -> dict[str, Any]:
    """Return Celery settings that make a dead broker fail fast instead of holding the caller."""
    return {
        "task_ignore_result": True,
        "broker_connection_timeout": CONNECT_SECONDS,
        "broker_transport_options": {"socket_connect_timeout": CONNECT_SECONDS, "max_retries": 0},
    }


@dataclass(frozen=True)
class WorkerSeen:
    """A worker's sign of life, at most ``HEARTBEAT_LIFETIME_SECONDS`` old."""

    name: str
    device: str
    device_name: str
    torch: str
    threads: int
    started_at: str


class Bus:
    """This process's line to Redis; its ``deliver`` is the courier of ``app.database.Database``."""

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._redis = redis.Redis.from_url(
            redis_url,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=2.0,
            retry=Retry(NoBackoff(), 0),
        )
        self._celery = Celery("querent", broker=celery_url(redis_url), set_as_current=False)
        self._celery.conf.update(broker_options())
        self._silent_until = 0.0

    def deliver(self, messages: Sequence[Message]) -> None:
        """Send tasks and publish events; never raises for a Redis that is not there."""
        for message in messages:
            if time.monotonic() < self._silent_until:
                return
            try:
                self._deliver_one(message)
            except (redis.RedisError, KombuError, OperationalError, OSError) as error:
                log.warning("not delivered, Redis cannot be reached: %s (%s)", message, error)
                self._silent_until = time.monotonic() + PAUSE_SECONDS

    def beat(self, seen: WorkerSeen) -> None:
        """Say that this worker is alive."""
        try:
            self._redis.set(HEARTBEAT_PREFIX + seen.name, json.dumps(asdict(seen)), ex=HEARTBEAT_LIFETIME_SECONDS)
        except redis.RedisError as error:
            log.warning("no sign of life sent: %s", error)

    def farewell(self, name: str) -> None:
        """Take back this worker's sign of life."""
        try:
            self._redis.delete(HEARTBEAT_PREFIX + name)
        except redis.RedisError as error:
            log.warning("sign of life left to expire: %s", error)

    def workers(self) -> list[WorkerSeen]:
        """Return the workers seen lately; none when Redis cannot be reached."""
        if time.monotonic() < self._silent_until:
            return []
        try:
            keys = sorted(self._redis.scan_iter(HEARTBEAT_PREFIX + "*", count=1000))
            values = self._redis.mget(keys) if keys else []
        except redis.RedisError:
            self._silent_until = time.monotonic() + PAUSE_SECONDS
            return []
        return [WorkerSeen(**json.loads(value)) for value in values if value]

    async def listen(self, project_id: int) -> AsyncGenerator[str]:
        """Yield a project's events as JSON, and "" now and then so that a gone listener is noticed.

        Each time that Redis begins to tell, at first and after it was gone, it is said by an event of the kind
        ``listening``.
        """
        while True:
            try:
                async for text in self._subscribed(project_id):
                    yield text
            except (redis.RedisError, OSError):
                yield ""
                await asyncio.sleep(PAUSE_SECONDS)

    def close(self) -> None:
        """Close all connections."""
        self._redis.close()
        self._celery.close()

    async def _subscribed(self, project_id: int) -> AsyncIterator[str]:
        client = redis.asyncio.Redis.from_url(self._url, socket_connect_timeout=CONNECT_SECONDS)
        async with client, client.pubsub() as channel:
            await channel.subscribe(channel_of(project_id))
            while True:
                message = await channel.get_message(timeout=KEEP_ALIVE_SECONDS)
                if message is None:
                    yield ""
                elif message["type"] == "subscribe":  # the confirmation, also after the client came back by itself
                    yield _encoded(EventKind.LISTENING, {})
                else:
                    yield message["data"].decode()

    def _deliver_one(self, message: Message) -> None:
        match message:
            case Task(name, ids):
                self._celery.send_task(name.value, args=ids, retry=False)
            case Event(project_id, kind, data):
                self._redis.publish(channel_of(project_id), _encoded(kind, data))


def celery_url(redis_url: str) -> str:
    """Return the URL as Celery spells it: a unix socket is ``redis+socket://`` there."""
    return redis_url.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=")


def channel_of(project_id: int) -> str:
    """Return the Redis channel that a project's events are published on."""
    return f"querent:project:{project_id}"


def _encoded(kind: EventKind, data: dict[str, Any]) -> str:
    return json.dumps({**data, "kind": kind.value})
