"""Bringing images into a project: the request, the rows, and the list of what was broken.

Reading files and decoding pictures is the worker's work (``worker.imports``). What is written here is idempotent: an
image whose bytes the project has already is counted as a duplicate, so an import that was cut off is simply run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from app.errors import BadInput
from app.outbox import EventKind, TaskName, announce, send_task
from app.records import Class, Image, Import, ImportState, Project, ProjectState, RoundReason, Split
from app.services import projects, rounds
from app.services.clock import now
from app.services.locks import lock_project

MOST_FAILURES = 500  # broken files listed by name; more are only counted


class SourceKind(StrEnum):
    """Where images can come from."""

    DIGITS = "digits"  # 1,797 handwritten digits, bundled with scikit-learn
    MNIST = "mnist"
    FASHION_MNIST = "fashionmnist"
    CIFAR10 = "cifar10"
    FOLDER = "folder"  # on the worker's machine; one sub-folder a class, or no sub-folders
    ZIP = "zip"  # uploaded; laid out like a folder


@dataclass(frozen=True)
class Source:
    """What to import.

    Attributes:
        path: the folder, or where a torchvision set lies or is downloaded to.
        blob: content hash of an uploaded archive.
        pool: most images taken into the pool; None for all.
        test: images held out for measuring accuracy; None for the source's own default.
        seed: decides which images are held out.
        labelled: False to ignore sub-folders and import without classes.
    """

    kind: SourceKind
    path: str | None = None
    blob: str | None = None
    pool: int | None = None
    test: int | None = None
    seed: int = 0
    labelled: bool = True

    def as_json(self) -> dict[str, Any]:
        """Return the source as the import's row keeps it."""
        return {**asdict(self), "kind": self.kind.value}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Source:
        """Read back what ``as_json`` returned."""
        return cls(**{**data, "kind": SourceKind(data["kind"])})


@dataclass(frozen=True)
class ReadyImage:
    """A decoded and stored image on its way into the pool."""

    content_hash: str
    name: str
    width: int
    height: int
    grey: bool
    split: Split
    class_name: str | None


@dataclass(frozen=True)
class BrokenFile:
    """A file that could not be imported, and why."""

    name: str
    reason: str


def request_import(session: Session, project_id: int, source: Source, start_when_done: bool = True) -> Import:
    """Ask the worker to import a source.

    Raises:
        BadInput: the source lacks its folder or its archive, or a number is negative.
        NotFound: there is no such project.
    """
    lock_project(session, project_id)
    if source.kind is SourceKind.FOLDER and not source.path:
        raise BadInput("folder", "none was named", "name the folder that holds the images")
    if source.kind is SourceKind.ZIP and not source.blob:
        raise BadInput("archive", "none was uploaded", "choose a .zip file")
    for name, number in (("pool", source.pool), ("test", source.test)):
        if number is not None and number < 0:
            raise BadInput(name, f"{number} is negative", "use zero or more images")
    requested = Import(project_id=project_id, source=source.as_json(), start_when_done=start_when_done)
    session.add(requested)
    session.flush()
    send_task(session, TaskName.RUN_IMPORT, requested.id)
    announce(session, project_id, EventKind.IMPORT, state=requested.state.value)
    return requested


def begin(session: Session, import_id: int) -> Import | None:
    """Start an import, or start it again after it was cut off; None if it has ended already."""
    found = session.scalar(select(Import).where(Import.id == import_id).with_for_update())
    if found is None or found.state not in (ImportState.REQUESTED, ImportState.RUNNING):
        return None
    found.state = ImportState.RUNNING
    found.duplicates = found.broken = 0
    found.failures, found.total = [], None
    session.flush()
    return found


def add_class_names(session: Session, project_id: int, names: Iterable[str]) -> None:
    """Add the classes that a source brings and the project lacks, digits in their order, then by name."""
    project = lock_project(session, project_id)
    known = set(session.scalars(select(Class.name).where(Class.project_id == project_id)))
    missing = sorted(set(names) - known, key=_class_order)
    if missing:
        projects.add_classes(session, project, missing)
        project.classes_version += 1


def add_images(
    session: Session,
    import_id: int,
    images: Sequence[ReadyImage],
    broken: Sequence[BrokenFile] = (),
    total: int | None = None,
) -> int:
    """Append a chunk of images to the project; return how many were new.

    An image that the project has already keeps its row, its split and its labels.
    """
    found = session.get_one(Import, import_id)
    project = lock_project(session, found.project_id)
    class_ids = {
        name: class_id
        for class_id, name in session.execute(select(Class.id, Class.name).where(Class.project_id == project.id))
    }
    wanted = select(Image.content_hash, Image.import_id, Image.name).where(
        Image.project_id == project.id, Image.content_hash.in_([image.content_hash for image in images])
    )
    there = {content_hash: (import_id, name) for content_hash, import_id, name in session.execute(wanted)}
    rows: list[dict[str, Any]] = []
    duplicates = 0
    for image in images:
        if image.content_hash not in there:
            rows.append(_row(found, project.image_count + len(rows), image, class_ids))
            there[image.content_hash] = (found.id, image.name)
        elif there[image.content_hash] != (found.id, image.name):  # else it came before this import was cut off
            duplicates += 1
    if rows:
        session.execute(insert(Image), rows)
    new = len(rows)
    project.image_count += new
    found.imported += new
    found.duplicates += duplicates
    found.broken += len(broken)
    listed = [*found.failures, *({"name": file.name, "reason": file.reason} for file in broken)]
    found.failures = listed[:MOST_FAILURES]
    found.total = total if total is not None else found.total
    session.flush()
    announce(session, project.id, EventKind.IMPORT, state=found.state.value, imported=found.imported, total=found.total)
    return new


def finish(session: Session, import_id: int) -> Import:
    """End an import; the project starts if that was asked for and it can, or asks about what is new."""
    found = session.get_one(Import, import_id)
    project = lock_project(session, found.project_id)
    _end(session, found, ImportState.DONE)
    if found.start_when_done and project.state is ProjectState.PAUSED and _can_start(session, project):
        projects.set_state(session, project.id, ProjectState.RUNNING)
    else:
        rounds.request_if_due(session, project, RoundReason.MORE_TO_ASK)
    return found


def fail(session: Session, import_id: int, error: str) -> None:
    """End an import that cannot go on; what was imported stays."""
    found = session.get_one(Import, import_id)
    found.error = error
    _end(session, found, ImportState.FAILED)


def latest_import(session: Session, project_id: int) -> Import | None:
    """Return the project's latest import."""
    return session.scalar(select(Import).where(Import.project_id == project_id).order_by(Import.id.desc()).limit(1))


def _class_order(name: str) -> tuple[bool, int, str]:
    return (False, int(name), name) if name.isdecimal() else (True, 0, name)


def _row(found: Import, row: int, image: ReadyImage, class_ids: dict[str, int]) -> dict[str, Any]:
    return {
        "project_id": found.project_id,
        "import_id": found.id,
        "row": row,
        "content_hash": image.content_hash,
        "name": image.name,
        "width": image.width,
        "height": image.height,
        "grey": image.grey,
        "split": image.split,
        "true_class_id": None if image.class_name is None else class_ids[image.class_name],
    }


def _can_start(session: Session, project: Project) -> bool:
    return project.image_count > 0 and len(projects.classes_of(session, project.id)) >= 2


def _end(session: Session, found: Import, state: ImportState) -> None:
    found.finished_at = now(session)
    found.state = state
    session.flush()
    announce(session, found.project_id, EventKind.IMPORT, state=state.value)
