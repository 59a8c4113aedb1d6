"""A scene for the grid in real Chromium: a project whose network believes something of every image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Page
from sqlalchemy import select

from app.database import Database
from app.records import Image, Query
from app.storage import Storage
from tests.browser.labeling import DIGITS, Open, Scene
from tests.browser.web import WebServer
from tests.factories import classes_of, make_clusters, make_project, make_round, make_user, predict

# resolves with the ids of the images on the board once all can be seen, and others than `previous` are there
SEE_PAGE = """previous => new Promise((resolve, reject) => {
  const deadline = performance.now() + 30000;
  const look = () => {
    if (performance.now() > deadline) return reject(new Error(document.querySelector("main").innerText));
    const board = document.querySelector(".stage:not([aria-busy=true]) .board");
    const images = board ? [...board.querySelectorAll(".tile img")] : [];
    const ids = images.map(image => image.dataset.address.split("/").pop());
    const isWhole = board && ids.length === board.children.length;
    if (!isWhole || ids.join() === previous) return requestAnimationFrame(look);
    setTimeout(() => resolve(ids.map(Number)));
  };
  look();
})"""
LOOK_MS = 550  # a page that was shown for less cannot be confirmed


@dataclass(frozen=True)
class GridScene(Scene):
    """A project with pages to confirm."""

    @property
    def path(self) -> str:
        return f"/projects/{self.project_id}/grid"

    def of_class(self, name: str) -> list[int]:
        """Return the images that are believed to be of a class, as a page shows them."""
        with self.database.transaction() as session:
            asked = select(Query.image_id).where(Query.project_id == self.project_id)
            asked = asked.where(Query.predicted_class_id == self.class_ids[name])
            return list(session.scalars(asked.order_by(Query.confidence.desc(), Query.id)))

    def of_cluster(self, cluster: int) -> list[int]:
        """Return the images of a cluster, as a page shows them."""
        with self.database.transaction() as session:
            asked = select(Query.image_id).where(Query.project_id == self.project_id, Query.cluster == cluster)
            return list(session.scalars(asked.order_by(Query.reserve, Query.rank)))

    def stored(self) -> dict[int, int | None]:
        """Return the standing answers by image; fails if one has two."""
        answers = self.answers()
        assert len({image for image, _ in answers}) == len(answers), "each image once"
        return dict(answers)

    def rows(self, image_ids: Sequence[int]) -> list[int]:
        with self.database.transaction() as session:
            found = dict(session.execute(select(Image.id, Image.row).where(Image.id.in_(image_ids))).all())
        return [found[image_id] for image_id in image_ids]


@pytest.fixture
def open_grid(open_page: Open) -> Open:
    """Open the grid as the scene's person, or as somebody else."""

    def build(scene: GridScene, *, somebody: bool = False) -> Page:
        with scene.database.transaction() as session:
            user = make_user(session) if somebody else scene.user
            session.commit()
        return open_page(scene, user=user)

    return build


GridStage = Callable[..., GridScene]


@pytest.fixture
def grid_stage(web: WebServer, database: Database) -> GridStage:
    def build(
        queries: int = 40, reserve: int = 0, classes: tuple[str, ...] = DIGITS[:2], wrong: Sequence[int] = (),
        **options: Any,
    ) -> GridScene:  # fmt: skip
        with database.transaction() as session:
            predicts, clusters = options.pop("predicts", True), options.pop("clusters", 0)
            user = make_user(session)
            storage = Storage(web.settings.storage)
            project = make_project(session, queries + reserve, classes, storage=storage, **options)
            made = make_round(session, project, queries, reserve)
            if predicts:
                predict(session, project, made, wrong)
            if clusters:
                make_clusters(session, made, clusters)
            ranked = select(Query.image_id).where(Query.round_id == made.id).order_by(Query.rank)
            known = {each.name: each.id for each in classes_of(session, project)}
            scene = GridScene(database, web, project.id, user, known, list(session.scalars(ranked)))
            session.commit()
        return scene

    return build


def see_page(page: Page, previous: Sequence[int] | None = None) -> list[int]:
    """Return the images on the board, in their order, once they are painted and others than ``previous``."""
    shown = None if previous is None else ",".join(map(str, previous))
    return list(page.evaluate(SEE_PAGE, shown))


def look(page: Page, previous: Sequence[int] | None = None) -> list[int]:
    """See a page for as long as it takes until it may be confirmed."""
    seen = see_page(page, previous)
    page.wait_for_timeout(LOOK_MS)
    return seen


def confirm(page: Page, previous: Sequence[int] | None = None) -> list[int]:
    """Look at the page on the board, one after ``previous``, and confirm it; return its images."""
    seen = look(page, previous)
    page.keyboard.press("Enter")
    return seen


def move_to(page: Page, place: int) -> None:
    """Go from the first image to another by keys."""
    page.keyboard.press("Home")
    for _ in range(place):
        page.keyboard.press("ArrowRight")
