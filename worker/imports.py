"""One import: a source in, images in storage and rows in the project out.

It can be cut off anywhere and run again: the source gives the same images in the same order, storage keeps equal bytes
once, and the rows of a chunk are written in one short transaction that skips what is there (``services.importing``).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sqlalchemy.exc import NoResultFound

from app.database import Database
from app.errors import BadInput, QuerentError, UnreadableImage
from app.services import importing
from app.services.importing import BrokenFile, ReadyImage, Source
from app.settings import load_settings
from app.storage import Storage
from worker.exclusive import exclusively
from worker.pictures import as_png, decode, is_grey, is_shown_by_browsers
from worker.sources import Found, Reading, open_source

log = logging.getLogger(__name__)

CHUNK_IMAGES = 200
CHUNK_SECONDS = 2.0  # large photos take long: whoever watches sees the import move


def run(database: Database, storage: Storage, import_id: int, data_folder: Path | None = None) -> None:
    """Run an import to its end, unless it has ended or another process runs it at this moment.

    What makes the source unusable as a whole ends the import as failed, with the message; files that cannot be read
    are listed in it, each with its reason.

    Args:
        data_folder: where published sets lie or are downloaded to; None for ``data`` in Querent's home.
    """
    with exclusively(database.engine, f"import {import_id}") as held:
        if not held:
            return
        started = _begin(database, import_id)
        if started is None:
            return
        project_id, source = started
        try:
            with open_source(source, storage, data_folder or load_settings().home / "data") as reading:
                _bring(database, storage, project_id, import_id, reading)
            with database.transaction() as session:
                importing.finish(session, import_id)
                session.commit()
        except QuerentError as error:
            _fail(database, import_id, error)
        except NoResultFound:
            log.info("import %s was deleted with its project while it ran", import_id)


def _begin(database: Database, import_id: int) -> tuple[int, Source] | None:
    with database.transaction() as session:
        started = importing.begin(session, import_id)
        session.commit()
        return None if started is None else (started.project_id, Source.from_json(started.source))


def _fail(database: Database, import_id: int, error: QuerentError) -> None:
    log.warning("import %s failed: %s", import_id, error)
    try:
        with database.transaction() as session:
            importing.fail(session, import_id, str(error))
            session.commit()
    except NoResultFound:
        log.info("import %s was deleted with its project while it ran", import_id)


def _bring(database: Database, storage: Storage, project_id: int, import_id: int, reading: Reading) -> None:
    with database.transaction() as session:
        importing.add_class_names(session, project_id, reading.class_names)
        importing.add_images(session, import_id, [], reading.refused, reading.total)
        session.commit()
    readable = 0
    first_broken: BrokenFile | None = None
    for images, broken in _chunks(_prepared(reading.images, storage)):
        with database.transaction() as session:
            importing.add_images(session, import_id, images, broken)
            session.commit()
        readable += len(images)
        first_broken = first_broken or next(iter(broken), None)
    if first_broken is not None and not readable:
        raise BadInput(
            f"all {reading.total} files",
            f"none is an image that can be read ({first_broken.name}: {first_broken.reason})",
            "see the list of broken files, and import others",
        )
    if not readable:
        raise BadInput("import", "it takes no images", "allow more images for the pool")


def _prepared(found: Iterable[Found], storage: Storage) -> Iterator[ReadyImage | BrokenFile]:
    for image in found:
        try:
            yield _prepare(image, storage)
        except UnreadableImage as error:
            yield BrokenFile(image.name, error.reason)


def _prepare(found: Found, storage: Storage) -> ReadyImage:
    """Decode an image completely and keep its file, or a PNG of it if browsers do not show its kind."""
    data = found.read()
    image = decode(data, found.name)
    content_hash = storage.put(data if is_shown_by_browsers(image) else as_png(image))
    return ReadyImage(
        content_hash, found.name, image.width, image.height, is_grey(image), found.split, found.class_name
    )


def _chunks(
    prepared: Iterable[ReadyImage | BrokenFile],
) -> Iterator[tuple[Sequence[ReadyImage], Sequence[BrokenFile]]]:
    images: list[ReadyImage] = []
    broken: list[BrokenFile] = []
    since = time.monotonic()
    for one in prepared:
        if isinstance(one, ReadyImage):
            images.append(one)
        else:
            broken.append(one)
        if len(images) + len(broken) == CHUNK_IMAGES or time.monotonic() - since > CHUNK_SECONDS:
            yield images, broken
            images, broken, since = [], [], time.monotonic()
    if images or broken:
        yield images, broken
