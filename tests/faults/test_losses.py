"""Acceptance 3 and 5: the web process dies in a burst of answers, Redis while people label. Nothing is lost."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from redis import Redis, RedisError
from sqlalchemy import func, select

from app.database import Database, upgrade
from app.embedded.redis import find_program
from app.records import Annotation, Lease, Query, Round, RoundState
from app.settings import Settings
from app.storage import Storage
from tests.browser.web import WebServer, free_port
from tests.conftest import fresh_database
from tests.factories import classes_of, make_project, make_round, make_user
from tests.processes import clean_environment, running
from tests.waiting import until


def test_every_acknowledged_answer_survives_the_death_of_the_web_process(
    settings: Settings, database: Database
) -> None:
    web = WebServer(settings)
    web.start()
    people = 4
    with database.transaction() as session:
        users = [make_user(session) for _ in range(people)]
        project = make_project(session, images=400)
        make_round(session, project, queries=400)
        class_id = classes_of(session, project)[0].id
        session.commit()
    claimed = {user.id: _claim(web, user, project.id) for user in users}
    acknowledged: set[str] = set()
    enough = threading.Event()

    def burst(user_number: int) -> list[dict[str, object]]:
        """Send answers until the process is gone; return those that were not acknowledged."""
        user = users[user_number]
        answers = [_answer(query_id, class_id) for query_id in claimed[user.id]]
        with web.client(user) as client:
            for number, given in enumerate(answers):
                try:
                    client.post(f"/projects/{project.id}/answers", json=given, timeout=5).raise_for_status()
                except httpx.TransportError:
                    return answers[number:]
                acknowledged.add(str(given["client_id"]))
                if len(acknowledged) >= 40:
                    enough.set()
        return []

    with ThreadPoolExecutor(people) as pool:
        bursts = [pool.submit(burst, number) for number in range(people)]
        assert enough.wait(60)
        web.end(signal.SIGKILL)
        unsent = [waiting.result() for waiting in bursts]
    assert any(unsent), "the process died in the middle of the burst"
    with database.transaction() as session:
        kept = set(map(str, session.scalars(select(Annotation.client_id).where(Annotation.project_id == project.id))))
    assert acknowledged <= kept
    web.start()
    for user, waiting in zip(users, unsent, strict=True):
        with web.client(user) as client:
            for given in waiting:  # what an outbox does: send it again, with the same id
                client.post(f"/projects/{project.id}/answers", json=given).raise_for_status()
    web.end(signal.SIGTERM)
    with database.transaction() as session:
        answers = session.execute(
            select(Annotation.query_id, Annotation.counted).where(Annotation.project_id == project.id)
        ).all()
        leases = session.scalar(select(func.count()).where(Lease.project_id == project.id))
    asked = [query_id for held in claimed.values() for query_id in held]
    assert Counter(query_id for query_id, _ in answers) == Counter(asked), "every answer once"
    assert all(counted for _, counted in answers)
    assert leases == 0


class OwnRedis:
    """A Redis of this test's own, which it may stop and start again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(find_program()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._process = subprocess.Popen(
            command, cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._answers, 10, "Redis answers")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with Redis.from_url(self.url) as client:
                return bool(client.ping())
        except RedisError:
            return False


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    server = OwnRedis(tmp_path)
    server.start()
    yield server
    server.kill()


def test_answers_are_saved_without_redis_and_the_round_runs_once_when_it_is_back(
    servers: Settings, fresh_home: Path, own_redis: OwnRedis
) -> None:
    with fresh_database(str(servers.database_url)) as url:
        upgrade(url)
        database = Database(url)
        environment = clean_environment(DATABASE_URL=url, REDIS_URL=own_redis.url, QUERENT_SWEEP_SECONDS="1")
        with running(fresh_home, "--no-demo", environment=environment) as product:
            until(product.answers, 60, "the web answers")
            web = WebServer(servers.model_copy(update={"home": fresh_home}))
            web.url = product.url
            storage = Storage(str(fresh_home / "storage"))
            with database.transaction() as session:
                user = make_user(session)
                recipe: dict[str, object] = {"image_side": 8, "fitting": {"epochs": 2}}
                project = make_project(session, images=60, storage=storage, recipe=recipe, test_images=10)
                make_round(session, project, queries=10)
                classes = [known.id for known in classes_of(session, project)]
                session.commit()
            query_ids = _claim(web, user, project.id, count=10)
            own_redis.kill()
            with web.client(user) as client:
                for number, query_id in enumerate(query_ids):
                    given = _answer(query_id, classes[number % 3])
                    client.post(f"/projects/{project.id}/answers", json=given, timeout=10).raise_for_status()
            assert _rounds(database, project.id) == [(0, RoundState.DONE, 0), (1, RoundState.REQUESTED, 0)]
            own_redis.start()
            done = [(0, RoundState.DONE, 0), (1, RoundState.DONE, 1)]
            until(lambda: _rounds(database, project.id) == done, 120, "the round runs once Redis is back")
        with database.transaction() as session:
            labels = session.scalars(select(Annotation.class_id).where(Annotation.project_id == project.id)).all()
            assert len(labels) == 10
            asked = select(func.count()).where(Query.project_id == project.id, Query.closed_at.is_(None))
            assert (session.scalar(asked) or 0) > 0, "the next batch is asked"
        database.close()


def _rounds(database: Database, project_id: int) -> list[tuple[int, RoundState, int]]:
    with database.transaction() as session:
        found = session.scalars(select(Round).where(Round.project_id == project_id).order_by(Round.number))
        return [(known.number, known.state, known.attempt) for known in found]


def _claim(web: WebServer, user: object, project_id: int, count: int = 50) -> list[int]:
    with web.client(user) as client:  # type: ignore[arg-type]
        reply = client.post(f"/projects/{project_id}/claim", json={"count": count}).raise_for_status()
    return [query["query_id"] for query in reply.json()["queries"]]


def _answer(query_id: int, class_id: int) -> dict[str, object]:
    client_id: UUID = uuid4()
    return {"client_id": str(client_id), "query_id": query_id, "outcome": "label", "class_id": class_id}
