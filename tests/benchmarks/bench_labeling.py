"""One person's answer and next query over HTTP, beside a bare request and a bare committed insert in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import httpx
from sqlalchemy import create_engine, text

from app import embedded
from app.database import Database, upgrade
from app.settings import Settings, load_settings
from tests.browser.web import WebServer
from tests.factories import classes_of, make_project, make_round, make_user

IMAGES = 10_000
ANSWERS = 300
WARM_UP = 20


def figures() -> dict[str, float]:
    """Return p50 and p95 in milliseconds."""
    with TemporaryDirectory() as folder, embedded.servers(load_settings(home=Path(folder) / "home")) as settings:
        upgrade(str(settings.database_url))
        web = WebServer(settings)
        web.start()
        try:
            return _measure(settings, web)
        finally:
            web.end()


def _measure(settings: Settings, web: WebServer) -> dict[str, float]:
    database = Database(str(settings.database_url))
    with database.transaction() as session:
        user = make_user(session)
        project = make_project(session, IMAGES, budget=IMAGES)
        make_round(session, project, queries=2 * (ANSWERS + WARM_UP))
        class_id = classes_of(session, project)[0].id
        session.commit()
    with web.client(user) as client:
        person = _Person(client, project.id, class_id)
        with create_engine(str(settings.database_url)).connect() as connection:
            connection.execute(text("CREATE TABLE bare (id bigint GENERATED ALWAYS AS IDENTITY, answer text)"))
            connection.commit()

            def insert() -> None:
                connection.execute(text("INSERT INTO bare (answer) VALUES ('7')"))
                connection.commit()

            times = _interleaved(
                {"next": person.next, "answer": person.answer, "bare_request": person.bare, "bare_commit": insert}
            )
    database.close()
    both = [answer + following for answer, following in zip(times["answer"], times["next"], strict=True)]
    return _quantiles({**times, "answer_and_next": both})


class _Person:
    """Somebody who asks for one query, answers it, and asks for the next."""

    def __init__(self, client: httpx.Client, project_id: int, class_id: int) -> None:
        self._client = client
        self._path = f"/projects/{project_id}"
        self._class_id = class_id
        self._query_id = 0

    def next(self) -> None:
        reply = self._client.post(f"{self._path}/claim", json={"count": 1}).raise_for_status()
        self._query_id = reply.json()["queries"][0]["query_id"]

    def answer(self) -> None:
        given = {"client_id": str(uuid4()), "query_id": self._query_id, "outcome": "label", "class_id": self._class_id}
        self._client.post(f"{self._path}/answers", json=given).raise_for_status()

    def bare(self) -> None:
        self._client.get("/healthz").raise_for_status()


def _interleaved(acts: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in acts}
    for number in range(ANSWERS + WARM_UP):
        for name, act in acts.items():
            began = time.perf_counter()
            act()
            if number >= WARM_UP:
                times[name].append(1000 * (time.perf_counter() - began))
    return times


def _quantiles(times: dict[str, list[float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, measured in times.items():
        cuts = statistics.quantiles(measured, n=20)
        found[f"{name}_p50_ms"] = cuts[9]
        found[f"{name}_p95_ms"] = cuts[18]
    return found
