"""A client of the web application in this process, and what tests of pages do with it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from uuid import uuid4

import pytest
from fastapi import FastAPI, Response
from sqlalchemy import event
from sqlalchemy.orm import Session

from app.database import Database
from app.main import create_app
from app.pages.sessions import COOKIE, Visits
from app.records import Model, Project, Role, User
from app.settings import Settings
from tests.factories import classes_of, make_entries, make_project, make_round, make_user

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have a successor of httpx
    from starlette.testclient import TestClient

HTML = {"Accept": "text/html"}
JSON = {"Accept": "application/json"}
HTMX = {"Accept": "text/html", "HX-Request": "true"}
LABELER: dict[str, object] = {"pseudo_labeler": "threshold"}
TOKEN = re.compile(r'<meta name="form-token" content="([0-9a-f]{64})">')


class Web:
    """The application and the database that it stands on."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.app: FastAPI = create_app(settings)
        self.wiring = self.app.state.wiring
        self.database = database

    def client(self, user: User | None = None) -> TestClient:
        """Return a browser, signed in if a person is given."""
        client = TestClient(self.app, headers=HTML, follow_redirects=False, raise_server_exceptions=False)
        if user is not None:
            cookie = cookie_of(self.wiring.settings, user)
            client.cookies.set(COOKIE, cookie, domain="testserver.local", path="/")
        return client

    def person(self, role: Role = Role.ANNOTATOR, password: str | None = None) -> User:
        """Make a person."""
        with self.database.transaction() as session:
            user = make_user(session, f"person {uuid4().hex[:8]}", role, password)
            session.commit()
        return user

    def admin(self) -> TestClient:
        """Return the browser of a new admin."""
        return self.client(self.person(Role.ADMIN))

    def annotator(self) -> TestClient:
        """Return the browser of a new annotator."""
        return self.client(self.person())

    @contextmanager
    def counted(self) -> Iterator[list[str]]:
        """Collect the statements that the application sends inside the block."""
        seen: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
            seen.append(statement)

        event.listen(self.wiring.database.engine, "before_cursor_execute", note)
        try:
            yield seen
        finally:
            event.remove(self.wiring.database.engine, "before_cursor_execute", note)

    def close(self) -> None:
        """Close its connections."""
        self.wiring.database.close()
        self.wiring.bus.close()


def cookie_of(settings: Settings, user: User) -> str:
    """Return the cookie of a new session of this person."""
    visits = Visits(settings.signing_key, settings.session_days, settings.secure_cookies)
    response = Response()
    visits.write(response, visits.start(user.id, user.session_epoch))
    return response.headers["set-cookie"].partition("=")[2].partition(";")[0]


def token_of(client: TestClient, path: str = "/people") -> str:
    """Return the form token that a page of this session carries."""
    page = client.get(path)
    found = TOKEN.search(page.text)
    assert found, page.text[:500]
    return found.group(1)


def make_history(web: Web, rounds: int = 2, images: int = 60) -> int:
    """Make a project with finished rounds; return its id."""
    with web.database.transaction() as session:
        project = make_project(session, images, test_images=10, storage=web.wiring.storage, recipe=LABELER)
        fill_history(session, project, rounds)
        session.commit()
        return project.id


def fill_history(session: Session, project: Project, rounds: int) -> None:
    """Give a project finished rounds; all but the first fitted a network, and labelled images that no round asks about.

    They measured an accuracy of 50%.
    """
    class_ids = [known.id for known in classes_of(session, project)]
    for number in range(rounds):
        made = make_round(session, project, queries=6, reserve=2, first_row=number * 8)
        made.labels = number * 6
        made.timings = {"seconds_fit": 1.25, "seconds_evaluate": 0.1, "seconds_score": 0.2, "seconds_select": 0.0}
        if number:
            made.metrics = _metrics(len(class_ids))
            fitted = Model(
                project_id=project.id, round_id=made.id, weights_hash="0" * 64, network={}, classes=class_ids
            )
            session.add(fitted)
            session.flush()
            said = {row: (row + number * (row % 2)) % 3 for row in range(number * 2, 10)}
            change = make_entries(session, project, made, {40 + row: chosen for row, chosen in said.items()})
            report = {"threshold": 0.97, "learned_from": 8}
            made.metrics = {**made.metrics, "pseudo": {"rule": "threshold", "report": report, **asdict(change)}}


def _metrics(classes: int) -> dict[str, object]:
    return {
        "test_accuracy": 0.5,
        "test_accuracy_low": 0.25,
        "test_accuracy_high": 0.75,
        "test_nll": 1.5,
        "test_ece": 0.125,
        "mean_entropy": 0.5,
        "per_class_accuracy": [0.5] * (classes - 1) + [None],
        "confusion": [[1] * classes for _ in range(classes)],
        "test_images": 10,
    }


@pytest.fixture
def web(settings: Settings, database: Database) -> Iterator[Web]:
    made = Web(settings, database)
    yield made
    made.close()
