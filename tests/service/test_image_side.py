"""At which side a round sees a project's images when the recipe lets it follow them."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from app.database import Database
from app.records import Image, Model
from app.services import rounds
from app.settings import Settings
from app.storage import Storage
from tests.factories import make_user
from tests.service.answers import make_answered
from worker.arrays import shorter_side_of
from worker.rounds import RoundRunner

QUICK = {"network": "softmax_regression", "fitting": {"epochs": 1}, "selection": "top_k"}


def sides_seen(
    database: Database, settings: Settings, folder: Path, sizes: list[tuple[int, int]], **recipe: object
) -> tuple[int, int]:
    """Run one round; return the side of its network and of the pixels that it kept.

    The files are squares of 8 pixels, whatever ``sizes`` says of width and height.
    """
    storage = Storage(str(folder / "blobs"))
    with database.transaction() as session:
        project = make_answered(
            session, {make_user(session).id: "012012"}, images=len(sizes), storage=storage, recipe={**QUICK, **recipe}
        )
        images = session.scalars(select(Image).where(Image.project_id == project.id).order_by(Image.row))
        for image, (width, height) in zip(images, sizes, strict=True):
            image.width, image.height = width, height
        rounds.request_by_admin(session, project.id)
        session.commit()
    own = settings.model_copy(update={"cache": folder / "cache"})
    RoundRunner(database, storage, own).run(project.id)
    with database.transaction() as session:
        model = session.scalars(select(Model).where(Model.project_id == project.id)).one()
    [pixels] = (folder / "cache").rglob("*.u8")
    side, other, channels = (int(part) for part in pixels.stem.split("x"))
    assert (side, channels) == (other, 1)
    assert pixels.stat().st_size == len(sizes) * side * side
    return model.network["side"], side


@pytest.mark.parametrize(
    ("sizes", "side"),
    [
        ([(28, 28)] * 8, 16),
        ([(640, 480)] * 8, 32),
        ([(32, 32)] * 8, 32),
        ([(640, 31)] * 8, 16),  # the shorter side counts, whichever it is
        ([(31, 640)] * 8, 16),
        ([(640, 480)] * 5 + [(8, 8)] * 4, 32),
        ([(640, 480)] * 4 + [(8, 8)] * 5, 16),
    ],
    ids=str,
)
def test_it_follows_the_median_of_the_shorter_sides(
    database: Database, settings: Settings, tmp_path: Path, sizes: list[tuple[int, int]], side: int
) -> None:
    assert sides_seen(database, settings, tmp_path, sizes) == (side, side)


def test_a_side_that_was_given_is_taken(database: Database, settings: Settings, tmp_path: Path) -> None:
    assert sides_seen(database, settings, tmp_path, [(640, 480)] * 8, image_side=10) == (10, 10)


def test_without_images_there_is_no_side(database: Database) -> None:
    with database.transaction() as session:
        assert shorter_side_of(session, 2**31 - 1) == 0
