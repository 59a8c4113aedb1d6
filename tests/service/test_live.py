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


def test_an_open_page_hears_what_happens_in_its_project_only(
    server: WebServer, settings: Settings, database: Database
) -> None:
    project_id, user = scene(database)
    lines = heard(server, project_id, user)
    bus = Bus(str(settings.redis_url))
    told = None
    for number in range(100):  # until the subscription stands, nothing is heard
        bus.deliver([Event(project_id + 1, EventKind.ROUND, {"number": -1})])
        bus.deliver([Event(project_id, EventKind.PROGRESS, {"number": number})])
        time.sleep(0.05)
        told = next((line for line in list(lines.queue) if line and line.startswith("data:")), None)
        if told:
            break
    bus.close()
    assert told and json.loads(told.removeprefix("data: "))["kind"] == "progress"


def test_a_stopping_server_does_not_wait_for_its_listeners(server: WebServer, database: Database) -> None:
    lines = heard(server, *scene(database))
    begun = time.monotonic()
    server.end(signal.SIGTERM)
    assert time.monotonic() - begun < 5
    while (line := lines.get(timeout=5)) is not None:
        assert line == "" or line.startswith(":")


def test_events_of_an_unknown_project_are_not_found(server: WebServer, database: Database) -> None:
    _, user = scene(database)
    response = httpx.get(f"{server.url}/projects/999999999/events", cookies={COOKIE: cookie_of(server.settings, user)})
    assert response.status_code == 404
