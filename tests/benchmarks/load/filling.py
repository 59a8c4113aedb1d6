"""A project of many image rows whose batch, reserve and pixels are there, so that people can begin and a round can fit.

Rows are inserted by the database itself; the queries are written as the end of a round writes them, and the worker's
cache of pixels is filled beforehand, since decoding a million files would measure something else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.database import Database
from app.records import Image, Project, QuerySource, Split, User
from app.services import rounds
from app.services.locks import lock_project
from app.services.rounds import RankedImage, RoundResult
from app.settings import Settings
from app.storage import Storage
from tests.factories import add_image_rows, classes_of, make_project, make_user, picture
from worker.arrays import PoolArrays

SIDE = 16
LABELLED = 2_000  # what the round fits to
TEST_IMAGES = 200
CLASSES = tuple("0123456789")
# as long a fit as there can be: it goes on for longer than people label
RECIPE: dict[str, object] = {
    "image_side": SIDE,
    "fitting": {"name": "supervised", "epochs": 1000, "patience": 1000, "reduce_after": 1000},
}


@dataclass(frozen=True)
class Filled:
    """What people come to: a project, its classes, and the people themselves."""

    project_id: int
    class_ids: list[int]
    users: list[User]


def fill(database: Database, settings: Settings, images: int, people: int, queries: int, side: int) -> Filled:
    """Make a project of ``images`` rows with a batch of ``queries`` and as much reserve, and people for it.

    Only images that are asked about have files of their own, of ``side`` pixels a side; ``queries`` of each kind must
    fit into the pool.
    """
    labelled, test = min(LABELLED, images // 10), min(TEST_IMAGES, images // 10)
    asked = range(labelled + test, labelled + test + 2 * queries)
    if asked.stop > images:
        raise ValueError(f"{images} images are too few for {queries} queries and as much reserve")
    storage = Storage(settings.storage)
    with database.transaction() as session:
        project = make_project(session, 0, CLASSES, budget=images, recipe=RECIPE)
        add_image_rows(session, project, images)
        _know_labels(session, project, labelled, test)
        _store_files(session, project, storage, asked, side)
        _finish_first_round(session, project, asked, queries)
        users = [make_user(session) for _ in range(people)]
        class_ids = [known.id for known in classes_of(session, project)]
        session.commit()
        _write_pixels(settings, storage, project, images)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    return Filled(project.id, class_ids, users)


def _know_labels(session: Session, project: Project, labelled: int, test: int) -> None:
    """Give the first rows labels, and the next ones, test images, their truth."""
    first = min(known.id for known in classes_of(session, project))
    of_rows = {"project": project.id, "first": first, "labelled": labelled, "all": labelled + test}
    session.execute(
        text(
            "UPDATE images SET label_class_id = :first + row % 10, has_human_label = true"
            " WHERE project_id = :project AND row < :labelled"
        ),
        of_rows,
    )
    session.execute(
        text(
            f"UPDATE images SET split = '{Split.TEST.value}', true_class_id = :first + row % 10"
            " WHERE project_id = :project AND row >= :labelled AND row < :all"
        ),
        of_rows,
    )


def _store_files(session: Session, project: Project, storage: Storage, asked: range, side: int) -> None:
    hashes = [storage.put(picture(number, side)) for number in asked]
    session.execute(
        text(
            "UPDATE images SET content_hash = given.hash, width = :side, height = :side"
            " FROM unnest(cast(:rows AS integer[]), cast(:hashes AS text[])) AS given (row, hash)"
            " WHERE images.project_id = :project AND images.row = given.row"
        ),
        {"project": project.id, "rows": list(asked), "hashes": hashes, "side": side},
    )


def _finish_first_round(session: Session, project: Project, asked: range, queries: int) -> None:
    """Let the first round end with this ranking, as a worker would."""
    rounds.request_if_due(session, lock_project(session, project.id))
    begun = rounds.begin(session, project)
    if begun is None:
        raise RuntimeError("no round was requested")
    ids = session.scalars(
        select(Image.id)
        .where(Image.project_id == project.id, Image.row >= asked.start, Image.row < asked.stop)
        .order_by(Image.row)
    )
    ranking = [
        RankedImage(one, QuerySource.ACQUISITION, score=1.0 / rank, parts={"acquisition": "entropy"})
        for rank, one in enumerate(ids, start=1)
    ]
    rounds.finish(session, begun.id, begun.attempt, RoundResult(ranking, queries, {}))


def _write_pixels(settings: Settings, storage: Storage, project: Project, images: int) -> None:
    path = PoolArrays(settings.cache / "arrays", storage).path(project, SIDE, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, images, 10_000):
            count = min(10_000, images - start)
            file.write(pixels.integers(0, 256, (count, SIDE, SIDE, 1), np.uint8).tobytes())
        os.fsync(file.fileno())
