"""Imports against a real database: what comes in, what is told as broken, and being cut off anywhere."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image as Picture
from sqlalchemy import select

from app.database import Database
from app.recipes import parse_recipe
from app.records import Class, Image, Import, ImportState, Project, ProjectState
from app.services import importing, projects
from app.services.importing import Source, SourceKind
from app.services.projects import NewProject
from app.settings import Settings
from app.storage import Storage
from worker import imports
from worker.exclusive import exclusively

Row = tuple[Any, ...]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "storage"))


class PowerCut(BaseException):
    """What ends a process in the middle of anything."""


class StoppingStorage(Storage):
    """A storage that does something when the given number of blobs has been put into it."""

    def __init__(self, url: str, puts: int, then: Callable[[], None]) -> None:
        super().__init__(url)
        self._left = puts
        self._then = then

    def put(self, data: bytes) -> str:
        """Put a blob, or act."""
        if self._left == 0:
            self._then()
        self._left -= 1
        return super().put(data)


def cut_power() -> None:
    raise PowerCut


def request(database: Database, source: Source, classes: tuple[str, ...] = ()) -> tuple[int, int]:
    with database.transaction() as session:
        new = NewProject(f"import {uuid4().hex[:10]}", parse_recipe(), 100, class_names=classes)
        project = projects.create(session, new)
        requested = importing.request_import(session, project.id, source)
        session.commit()
        return project.id, requested.id


def read_import(database: Database, import_id: int) -> Import:
    with database.transaction() as session:
        return session.get_one(Import, import_id)


def read_rows(database: Database, project_id: int) -> list[Row]:
    wanted = (
        select(
            Image.row, Image.content_hash, Image.name, Image.split, Class.name, Image.width, Image.height, Image.grey
        )
        .join(Class, Class.id == Image.true_class_id, isouter=True)
        .where(Image.project_id == project_id)
        .order_by(Image.row)
    )
    with database.transaction() as session:
        return [tuple(row) for row in session.execute(wanted)]


def save(place: Path, shade: int, mode: str = "L") -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    Picture.new(mode, (5, 3), shade if mode == "L" else (shade, 0, 0)).save(place)


def test_broken_files_are_listed_with_their_reasons_and_the_rest_is_imported(
    database: Database, storage: Storage, tmp_path: Path
) -> None:
    root = tmp_path / "in"
    for shade in range(4):
        save(root / "cat" / f"{shade}.png", shade)
        save(root / "dog" / f"{shade}.jpg", 90 + 40 * shade, "RGB")
    (root / "cat" / "empty.png").touch()
    (root / "cat" / "notes.png").write_text("not an image")
    (root / "dog" / "torn.jpg").write_bytes((root / "dog" / "0.jpg").read_bytes()[:-40])
    (root / "README").write_text("beside the classes")
    project_id, import_id = request(database, Source(SourceKind.FOLDER, path=str(root), test=0))

    imports.run(database, storage, import_id)

    found = read_import(database, import_id)
    assert (found.state, found.imported, found.broken, found.total) == (ImportState.DONE, 8, 4, 12)
    reasons = {file["name"]: file["reason"] for file in found.failures}
    assert reasons.keys() == {"cat/empty.png", "cat/notes.png", "dog/torn.jpg", "README"}
    assert reasons["cat/empty.png"] == "the file is empty"
    assert "no image" in reasons["cat/notes.png"]
    assert "damaged" in reasons["dog/torn.jpg"]
    assert [(name, truth) for _, _, name, _, truth, *_ in read_rows(database, project_id)] == [
        *((f"cat/{shade}.png", "cat") for shade in range(4)),
        *((f"dog/{shade}.jpg", "dog") for shade in range(4)),
    ]


SMALL = Source(SourceKind.DIGITS, pool=35, test=10, seed=3)


@pytest.mark.parametrize("puts", [0, 1, 19, 20, 21, 40, 44])
def test_an_import_that_was_cut_off_in_a_chunk_leaves_the_same_rows_when_run_again(
    database: Database, storage: Storage, puts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "CHUNK_IMAGES", 20)
    project_id, import_id = request(database, SMALL)
    with pytest.raises(PowerCut):
        imports.run(database, StoppingStorage(storage.url, puts, cut_power), import_id)
    assert read_import(database, import_id).state is ImportState.RUNNING
    imports.run(database, storage, import_id)
    assert_like_undisturbed(database, storage, project_id, import_id)


@pytest.mark.parametrize("commits", range(6))
def test_an_import_that_was_cut_off_after_a_commit_leaves_the_same_rows_when_run_again(
    database: Database, settings: Settings, storage: Storage, commits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "CHUNK_IMAGES", 20)
    project_id, import_id = request(database, SMALL)
    passed: list[object] = []

    def courier(messages: object) -> None:
        passed.append(messages)
        if len(passed) > commits:
            raise PowerCut

    doomed = Database(str(settings.database_url), courier)
    with pytest.raises(PowerCut):
        imports.run(doomed, storage, import_id)
    doomed.close()
    imports.run(database, storage, import_id)
    assert_like_undisturbed(database, storage, project_id, import_id)


def assert_like_undisturbed(database: Database, storage: Storage, project_id: int, import_id: int) -> None:
    undisturbed_project, undisturbed = request(database, SMALL)
    imports.run(database, storage, undisturbed)
    assert read_rows(database, project_id) == read_rows(database, undisturbed_project)
    assert len(read_rows(database, project_id)) == 45
    counts = [
        (found.state, found.imported, found.duplicates, found.broken, found.total)
        for found in (read_import(database, import_id), read_import(database, undisturbed))
    ]
    assert counts == [(ImportState.DONE, 45, 0, 0, 45)] * 2


def test_an_import_that_is_done_is_not_run_again(database: Database, storage: Storage) -> None:
    project_id, import_id = request(database, Source(SourceKind.DIGITS, pool=20, test=10))
    imports.run(database, storage, import_id)
    before = read_rows(database, project_id)
    imports.run(database, StoppingStorage(storage.url, 0, cut_power), import_id)
    assert read_rows(database, project_id) == before


def test_importing_the_same_source_again_adds_nothing(database: Database, storage: Storage) -> None:
    source = Source(SourceKind.DIGITS, pool=20, test=10)
    project_id, first = request(database, source)
    imports.run(database, storage, first)
    before = read_rows(database, project_id)
    with database.transaction() as session:
        second = importing.request_import(session, project_id, source).id
        session.commit()
    imports.run(database, storage, second)
    found = read_import(database, second)
    assert (found.state, found.imported, found.duplicates) == (ImportState.DONE, 0, 30)
    assert read_rows(database, project_id) == before


def test_two_workers_never_run_the_same_import(database: Database, storage: Storage) -> None:
    project_id, import_id = request(database, Source(SourceKind.DIGITS, pool=20, test=10))
    with exclusively(database.engine, f"import {import_id}") as held:
        assert held
        imports.run(database, storage, import_id)
        assert read_import(database, import_id).state is ImportState.REQUESTED
    imports.run(database, storage, import_id)
    assert len(read_rows(database, project_id)) == 30


def test_a_project_that_is_deleted_ends_its_import_without_a_fuss(database: Database, storage: Storage) -> None:
    project_id, import_id = request(database, Source(SourceKind.DIGITS, pool=20, test=10))

    def delete() -> None:
        with database.transaction() as session:
            projects.delete(session, project_id)
            session.commit()

    imports.run(database, StoppingStorage(storage.url, 5, delete), import_id)
    with database.transaction() as session:
        assert session.get(Project, project_id) is None


def test_files_stay_as_they_are_if_browsers_show_them_and_become_png_if_not(
    database: Database, storage: Storage, tmp_path: Path
) -> None:
    save(tmp_path / "in" / "1.jpg", 200, "RGB")
    save(tmp_path / "in" / "2.bmp", 100, "RGB")
    project_id, import_id = request(database, Source(SourceKind.FOLDER, path=str(tmp_path / "in")))
    imports.run(database, storage, import_id)
    jpeg, bmp = (storage.get(row[1]) for row in read_rows(database, project_id))
    assert jpeg == (tmp_path / "in" / "1.jpg").read_bytes()
    assert Picture.open(io.BytesIO(bmp)).format == "PNG"


def test_the_project_starts_when_its_images_are_there(database: Database, storage: Storage) -> None:
    project_id, import_id = request(database, Source(SourceKind.DIGITS, pool=20, test=10))
    imports.run(database, storage, import_id)
    with database.transaction() as session:
        project = session.get_one(Project, project_id)
        assert (project.state, project.image_count) == (ProjectState.RUNNING, 30)
        assert [(known.name, known.key) for known in projects.classes_of(session, project_id)] == [
            (digit, digit) for digit in "0123456789"
        ]


def test_unlabelled_images_take_the_classes_that_were_given(
    database: Database, storage: Storage, tmp_path: Path
) -> None:
    save(tmp_path / "in" / "1.png", 1)
    project_id, import_id = request(database, Source(SourceKind.FOLDER, path=str(tmp_path / "in")), ("cat", "dog"))
    imports.run(database, storage, import_id)
    with database.transaction() as session:
        assert [known.name for known in projects.classes_of(session, project_id)] == ["cat", "dog"]
    assert [row[4] for row in read_rows(database, project_id)] == [None]


@pytest.mark.parametrize(
    ("names", "message"),
    [([], "holds no images"), (["a/broken.png", "b/broken.png"], "none is an image that can be read")],
    ids=["empty", "all broken"],
)
def test_a_source_without_images_fails_and_says_why(
    database: Database, storage: Storage, tmp_path: Path, names: list[str], message: str
) -> None:
    (tmp_path / "in").mkdir()
    for name in names:
        (tmp_path / "in" / name).parent.mkdir()
        (tmp_path / "in" / name).write_text("no image")
    project_id, import_id = request(database, Source(SourceKind.FOLDER, path=str(tmp_path / "in")))
    imports.run(database, storage, import_id)
    found = read_import(database, import_id)
    assert found.state is ImportState.FAILED
    assert message in (found.error or "")
    assert read_rows(database, project_id) == []


def test_a_lost_archive_fails_the_import_and_says_why(database: Database, storage: Storage) -> None:
    _, import_id = request(database, Source(SourceKind.ZIP, blob="0" * 64))
    imports.run(database, storage, import_id)
    found = read_import(database, import_id)
    assert found.state is ImportState.FAILED
    assert "is not in the storage" in (found.error or "")


def test_who_watches_sees_slow_images_come(
    database: Database, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "CHUNK_SECONDS", 0.0)
    for shade in range(3):
        save(tmp_path / "in" / f"{shade}.png", shade)
    project_id, import_id = request(database, Source(SourceKind.FOLDER, path=str(tmp_path / "in")))
    seen: list[int] = []

    def look() -> None:
        seen.append(len(read_rows(database, project_id)))

    imports.run(database, StoppingStorage(storage.url, 2, look), import_id)
    assert seen == [2]
