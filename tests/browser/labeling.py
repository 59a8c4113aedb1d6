"""A scene to label in real Chromium: a project with a ranking, a page on it, and what a person does there."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
import redis
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from sqlalchemy import func, select, update

from app.database import Database
from app.events import Bus, channel_of
from app.records import Annotation, Class, Lease, Outcome, ProjectState, Query, User
from app.services import claiming, labeling, leases
from app.services.labeling import Answer
from app.settings import Settings
from app.storage import Storage
from tests.browser.chromium import ARGUMENTS, CHROMIUM
from tests.browser.web import WebServer
from tests.factories import classes_of, make_project, make_round, make_user
from tests.waiting import until

DIGITS = tuple("0123456789")
# resolves with the id of the image on screen once it has been painted, and is another one than `previous`
SEE = """previous => new Promise((resolve, reject) => {
  const deadline = performance.now() + 30000;
  const look = () => {
    if (performance.now() > deadline) return reject(new Error(document.querySelector("main").innerText));
    const image = document.querySelector(".stage:not([aria-busy=true]) .picture");
    const id = image && image.dataset.address.split("/").pop();
    if (!id || id === previous) return requestAnimationFrame(look);
    setTimeout(() => resolve(id));
  };
  look();
})"""
HEAR = """() => {
  window.heard = [];
  const live = document.querySelector("[data-part=live]");
  const hear = changes => changes.forEach(({ addedNodes: [said] }) => said && window.heard.push(said.data));
  new MutationObserver(hear).observe(live, { childList: true });
}"""


@dataclass(frozen=True)
class Scene:
    """A project with one finished round, and somebody to label it."""

    database: Database
    web: WebServer
    project_id: int
    user: User
    class_ids: dict[str, int]
    image_ids: list[int]  # in the ranking's order

    @property
    def path(self) -> str:
        return f"/projects/{self.project_id}/label"

    def annotations(self, *, standing: bool = True) -> list[Annotation]:
        with self.database.transaction() as session:
            found = select(Annotation).where(Annotation.project_id == self.project_id).order_by(Annotation.id)
            if standing:
                found = found.where(Annotation.counted, Annotation.revoked_at.is_(None))
            return list(session.scalars(found))

    def answers(self) -> list[tuple[int, int | None]]:
        return [(known.image_id, known.class_id) for known in self.annotations()]

    def saved(self, count: int) -> list[tuple[int, int | None]]:
        until(lambda: len(self.answers()) >= count, 40, f"{count} answers are saved")
        return self.answers()

    def expected(self, keys: str, start: int = 0) -> list[tuple[int, int | None]]:
        return [(image, self.class_ids[key]) for image, key in zip(self.image_ids[start:], keys, strict=False)]

    def outcomes(self) -> list[tuple[int, Outcome]]:
        return [(known.image_id, known.outcome) for known in self.annotations()]

    def answered_before(self, keys: str) -> None:
        """Let the person have given these labels already, to the first images of the ranking."""
        with self.database.transaction() as session:
            for key in keys:
                [ask] = claiming.claim(session, self.project_id, self.user.id, 1, 60)
                given = Answer(uuid4(), self.project_id, ask.query_id, self.user.id, Outcome.LABEL, self.class_ids[key])
                assert labeling.answer(session, given).counted
            session.commit()

    def retire(self, name: str) -> None:
        with self.database.transaction() as session:
            session.execute(update(Class).where(Class.id == self.class_ids[name]).values(retired_at=func.now()))
            session.commit()

    def leases(self) -> int:
        with self.database.transaction() as session:
            held = select(func.count()).where(Lease.project_id == self.project_id)
            return session.scalar(held) or 0


expect.set_options(timeout=20_000)  # a bound for busy machines: nothing waits so long where things work
Stage = Callable[..., Scene]
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def web(servers: Settings, database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    server = WebServer(servers.model_copy(update={"home": tmp_path_factory.mktemp("web")}))
    server.start()
    yield server
    server.end(signal.SIGTERM)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def stage(web: WebServer, database: Database) -> Stage:
    def build(
        queries: int = 20, reserve: int = 0, classes: tuple[str, ...] = DIGITS, *, password: str | None = None,
        state: ProjectState = ProjectState.RUNNING, spare: int = 0, overlap: int = 1, side: int = 8,
    ) -> Scene:  # fmt: skip
        with database.transaction() as session:
            user = make_user(session, password=password)
            storage = Storage(web.settings.storage)
            images = queries + reserve + spare
            project = make_project(session, images, classes, storage=storage, state=state, overlap=overlap, side=side)
            asked = make_round(session, project, queries, reserve)
            ranked = select(Query.image_id).where(Query.round_id == asked.id).order_by(Query.rank)
            scene = Scene(
                database,
                web,
                project.id,
                user,
                {known.name: known.id for known in classes_of(session, project)},
                list(session.scalars(ranked)),
            )
            session.commit()
        return scene

    return build


@pytest.fixture
def open_page(chromium: Browser, web: WebServer) -> Iterator[Open]:
    contexts: list[BrowserContext] = []

    def build(
        scene: Scene, user: User | None = None, *, before: Callable[[Page], object] | None = None, **options: Any
    ) -> Page:
        context = web.context(chromium, user or scene.user, **options)
        contexts.append(context)
        page = context.new_page()
        if before:  # and not a second load: the page that is left would give its queries back at some later time
            before(page)
        page.goto(scene.path)
        return page

    yield build
    for context in contexts:
        context.close()


def move_clock(page: Page) -> None:
    """Let the test say how fast the page's time goes; for ``before``."""
    page.clock.install()


def see(page: Page, previous: int | None = None) -> int:
    """Return the id of the image that is painted, once it is another than ``previous``."""
    return int(page.evaluate(SEE, None if previous is None else str(previous)))


def label(page: Page, keys: str, seen: int | None = None) -> int | None:
    """Press one key for every next image, each as soon as its image is painted; return the last image's id."""
    for key in keys:
        seen = see(page, seen)
        page.keyboard.press(key)
    return seen


def go(page: Page, key: str) -> int:
    """Press a key that shows another image; return that image's id."""
    seen = see(page)
    page.keyboard.press(key)
    return see(page, seen)


def cut_off(page: Page, *addresses: str) -> Callable[[], None]:
    """Let no request to these addresses, or no answers and undo, through until what is returned is called."""
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    network.send("Network.setBlockedURLs", {"urls": [*(addresses or ("*/answers", "*/answers/batch", "*/undo"))]})

    def reconnect() -> None:
        network.send("Network.setBlockedURLs", {"urls": []})

    return reconnect


@contextmanager
def telling(web: WebServer) -> Iterator[Database]:
    """Open a database whose commits are told to open pages, as those of the product are."""
    bus = Bus(str(web.settings.redis_url))
    database = Database(str(web.settings.database_url), bus.deliver)
    yield database
    database.close()
    bus.close()


def is_heard(web: WebServer, scene: Scene) -> bool:
    """Return whether an open page hears the project's events; what is told before is not told again."""
    with redis.Redis.from_url(str(web.settings.redis_url)) as line:
        [(_, listeners)] = line.pubsub_numsub(channel_of(scene.project_id))
    return bool(listeners)


# a colour that is still fading in has less contrast; what pulses for ever is left out
SETTLED = """() => Promise.all(document.getAnimations()
  .filter(running => running.effect.getComputedTiming().endTime !== Infinity)
  .map(running => running.finished.catch(() => {})))"""


def assert_accessible(page: Page) -> None:
    page.evaluate(SETTLED)
    found = Axe().run(
        page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    )
    assert found.violations_count == 0, found.generate_report()


def somebody_else_answers_the_first(scene: Scene) -> None:
    with scene.database.transaction() as session:
        past = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, 1)
        session.execute(update(Lease).where(Lease.project_id == scene.project_id).values(expires_at=past))
        other = make_user(session)
        leases.return_expired(session, scene.project_id)
        [ask] = claiming.claim(session, scene.project_id, other.id, 1, 60)
        given = Answer(uuid4(), scene.project_id, ask.query_id, other.id, Outcome.LABEL, scene.class_ids["5"])
        assert labeling.answer(session, given).counted
        session.commit()
