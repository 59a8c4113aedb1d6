"""The stream of events, against a real server process: it hears what happens, and ends when the server does."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from queue import Queue
from uuid import uuid4

import httpx
import pytest
import redis

from app.database import Database
from app.events import Bus
from app.outbox import Event, EventKind
from app.pages.sessions import COOKIE
from app.records import User
from app.settings import Settings
from tests.browser.web import WebServer
from tests.factories import make_project, make_user
from tests.service.web import cookie_of


@pytest.fixture
def server(settings: Settings, database: Database) -> Iterator[WebServer]:
    assert database
    started = WebServer(settings)
    started.start()
    yield started
    started.end()


def scene(database: Database) -> tuple[int, User]:
    with database.transaction() as session:
        project_id, user = make_project(session, 3).id, make_user(session, f"listener {uuid4().hex[:6]}")
        session.commit()
    return project_id, user


def heard(server: WebServer, project_id: int, user: User) -> Queue[str | None]:
    """Listen in a thread; yields lines, and None when the stream has ended."""
    lines: Queue[str | None] = Queue()

    def listen() -> None:
        address = f"{server.url}/projects/{project_id}/events"
        try:
            with httpx.stream(
                "GET", address, cookies={COOKIE: cookie_of(server.settings, user)}, timeout=20
            ) as response:
                for line in response.iter_lines():
                    lines.put(line)
        except httpx.RemoteProtocolError:
            lines.put("cut off")
        lines.put(None)

    threading.Thread(target=listen, daemon=True).start()
    assert lines.get(timeout=10).startswith("retry:")  # type: ignore[union-attr]
    return lines


def told(lines: Queue[str | None]) -> dict[str, object]:
    """Wait for the next event."""
    while not (line := lines.get(timeout=20) or "").startswith("data:"):
        assert line != "cut off"
    event: dict[str, object] = json.loads(line.removeprefix("data: "))
    return event


def test_an_open_page_hears_what_happens_in_its_project_only(
    server: WebServer, settings: Settings, database: Database
) -> None:
    project_id, user = scene(database)
    pages = [heard(server, project_id, user) for _ in range(2)]  # the second joins the line of the first
    bus = Bus(str(settings.redis_url))
    for lines in pages:
        assert told(lines) == {"kind": "listening"}
    bus.deliver([Event(project_id + 1, EventKind.ROUND, {"number": -1})])
    bus.deliver([Event(project_id, EventKind.PROGRESS, {"number": 7})])
    bus.close()
    for lines in pages:
        assert told(lines) == {"kind": "progress", "number": 7}


def test_a_page_is_told_that_events_may_be_missing_when_its_line_was_cut(
    server: WebServer, settings: Settings, database: Database
) -> None:
    project_id, user = scene(database)
    lines = heard(server, project_id, user)
    assert told(lines) == {"kind": "listening"}
    with redis.Redis.from_url(str(settings.redis_url)) as line:
        assert line.client_kill_filter(_type="pubsub")
    assert told(lines) == {"kind": "listening"}
    bus = Bus(str(settings.redis_url))
    bus.deliver([Event(project_id, EventKind.ROUND, {"number": 1})])
    bus.close()
    assert told(lines) == {"kind": "round", "number": 1}


def test_a_stopping_server_does_not_wait_for_its_listeners(server: WebServer, database: Database) -> None:
    lines = heard(server, *scene(database))
    begun = time.monotonic()
    server.end(signal.SIGTERM)
    assert time.monotonic() - begun < 5
    while (line := lines.get(timeout=5)) is not None:
        assert line == "" or line.startswith(":") or "listening" in line


def test_events_of_an_unknown_project_are_not_found(server: WebServer, database: Database) -> None:
    _, user = scene(database)
    response = httpx.get(f"{server.url}/projects/999999999/events", cookies={COOKIE: cookie_of(server.settings, user)})
    assert response.status_code == 404
