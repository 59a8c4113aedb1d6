"""Sources: what lies where is which class, the same every time, and nothing outside the source is ever read."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest

from app.errors import BadInput, NotFound, UnreadableImage
from app.records import Split
from app.services.importing import Source, SourceKind
from app.storage import Storage
from worker.pictures import decode
from worker.sources import Found, Reading, archives, folders, open_source


def fill(root: Path, files: Iterable[str]) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def zipped(storage: Storage, files: Mapping[str, bytes] | Iterable[str]) -> str:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in files:
            archive.writestr(name, files[name] if isinstance(files, Mapping) else name.encode())
    return storage.put(target.getvalue())


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "storage"))


class Opened:
    """Everything that a source gives."""

    def __init__(self, source: Source, storage: Storage, data: Path = Path("/nowhere")) -> None:
        with open_source(source, storage, data) as reading:
            self.reading: Reading = reading
            self.found: list[Found] = list(reading.images)
            self.data = [one.read() for one in self.found]

    @property
    def classes(self) -> dict[str, str | None]:
        return {one.name: one.class_name for one in self.found}

    @property
    def splits(self) -> Counter[Split]:
        return Counter(one.split for one in self.found)


def of_folder(root: Path, **options: object) -> Source:
    return Source(SourceKind.FOLDER, path=str(root), **{"test": 0, **options})  # type: ignore[arg-type]


def test_a_folder_has_one_sub_folder_a_class_however_deep_its_files(tmp_path: Path, storage: Storage) -> None:
    root = fill(tmp_path / "in", ["cat/1.png", "cat/old/2.png", "dog/1.png"])
    opened = Opened(of_folder(root), storage)
    assert opened.classes == {"cat/1.png": "cat", "cat/old/2.png": "cat", "dog/1.png": "dog"}
    assert opened.reading.class_names == ["cat", "dog"]
    assert opened.data == [b"cat/1.png", b"cat/old/2.png", b"dog/1.png"]


def test_a_folder_without_sub_folders_is_unlabelled_and_in_natural_order(tmp_path: Path, storage: Storage) -> None:
    opened = Opened(of_folder(fill(tmp_path / "in", ["10.png", "9.png", "1.png"])), storage)
    assert list(opened.classes.items()) == [("1.png", None), ("9.png", None), ("10.png", None)]
    assert opened.reading.class_names == []


def test_sub_folders_can_be_taken_without_classes(tmp_path: Path, storage: Storage) -> None:
    root = fill(tmp_path / "in", ["a/1.png", "b/1.png", "loose.png"])
    opened = Opened(of_folder(root, labelled=False), storage)
    assert set(opened.classes.values()) == {None}
    assert len(opened.found) == 3


def test_hidden_files_and_those_of_systems_are_left_out(tmp_path: Path, storage: Storage) -> None:
    names = ["a/1.png", "a/.DS_Store", ".git/x.png", "__MACOSX/a/._1.png", "a/Thumbs.db", "b/2.png"]
    assert list(Opened(of_folder(fill(tmp_path / "in", names)), storage).classes) == ["a/1.png", "b/2.png"]


def test_a_file_beside_the_class_folders_is_told(tmp_path: Path, storage: Storage) -> None:
    opened = Opened(of_folder(fill(tmp_path / "in", ["a/1.png", "LICENSE"])), storage)
    assert [file.name for file in opened.reading.refused] == ["LICENSE"]
    assert "in none of them" in opened.reading.refused[0].reason
    assert opened.reading.total == 2


def test_links_never_lead_out_of_the_folder(tmp_path: Path, storage: Storage) -> None:
    outside = fill(tmp_path / "outside", ["secret.png"])
    root = fill(tmp_path / "in", ["1.png"])
    (root / "2.png").symlink_to(root / "1.png")
    (root / "3.png").symlink_to(outside / "secret.png")
    (root / "4").symlink_to(outside)
    (root / "5.png").symlink_to(root / "gone")
    opened = Opened(of_folder(root), storage)
    assert list(opened.classes) == ["1.png", "2.png"]
    assert {file.name for file in opened.reading.refused} == {"3.png", "4", "5.png"}


def test_a_pipe_in_the_folder_does_not_stop_the_import(tmp_path: Path, storage: Storage) -> None:
    root = fill(tmp_path / "in", ["1.png"])
    os.mkfifo(root / "2.png")
    assert [file.reason for file in Opened(of_folder(root), storage).reading.refused] == ["it is no regular file"]


def test_a_file_name_that_is_no_text_is_kept_readable(tmp_path: Path, storage: Storage) -> None:
    root = tmp_path / "in"
    root.mkdir()
    with open(os.fsencode(root) + b"/\xff.png", "wb") as file:  # noqa: PTH123 - a Path cannot hold this name
        file.write(b"x")
    opened = Opened(of_folder(root), storage)
    assert opened.data == [b"x"]
    assert [name.encode() for name in opened.classes] == [b"?.png"]


@pytest.mark.parametrize("missing", ["nowhere", "empty"])
def test_a_folder_that_is_not_there_or_empty_is_told_by_its_name(
    tmp_path: Path, storage: Storage, missing: str
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=str(tmp_path / missing)):
        Opened(of_folder(tmp_path / missing), storage)


def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "LARGEST_FILE_BYTES", 4)
    with pytest.raises(UnreadableImage, match="larger than"):
        Opened(of_folder(fill(tmp_path / "in", ["1.png"])), storage)


def test_an_archive_is_laid_out_like_a_folder(storage: Storage) -> None:
    blob = zipped(storage, ["cat/10.png", "cat/9.png", "__MACOSX/cat/._9.png", "dog/deep/1.png"])
    opened = Opened(Source(SourceKind.ZIP, blob=blob, test=0), storage)
    assert list(opened.classes.items()) == [("cat/9.png", "cat"), ("cat/10.png", "cat"), ("dog/deep/1.png", "dog")]


@pytest.mark.parametrize(
    ("names", "classes"),
    [(["top/a/1.png", "top/b/1.png"], {"a", "b"}), (["top/1.png", "top/2.png"], {None}), (["1.png"], {None})],
    ids=["classes in a wrapping", "images in a wrapping", "bare images"],
)
def test_a_top_folder_that_holds_everything_is_ignored(
    storage: Storage, names: list[str], classes: set[str | None]
) -> None:
    opened = Opened(Source(SourceKind.ZIP, blob=zipped(storage, names), test=0), storage)
    assert set(opened.classes.values()) == classes


def test_an_archive_that_names_places_outside_it_reads_and_writes_none(tmp_path: Path, storage: Storage) -> None:
    names = ["../../a/evil.png", "/etc/b/evil.png", "..\\a\\worse.png", "C:\\b\\1.png"]
    before = sorted(tmp_path.rglob("*.png"))
    opened = Opened(Source(SourceKind.ZIP, blob=zipped(storage, names), test=0), storage)
    assert len(opened.found) == 4
    assert not any(".." in name.split("/") or name.startswith("/") for name in opened.classes)
    assert sorted(tmp_path.rglob("*.png")) == before


def test_what_is_no_archive_is_told(storage: Storage) -> None:
    with pytest.raises(BadInput, match="no zip archive"):
        Opened(Source(SourceKind.ZIP, blob=storage.put(b"not a zip")), storage)
    with pytest.raises(NotFound):
        Opened(Source(SourceKind.ZIP, blob="0" * 64), storage)
    with pytest.raises(BadInput, match="holds no images"):
        Opened(Source(SourceKind.ZIP, blob=zipped(storage, [])), storage)


def test_an_encrypted_archive_is_told(storage: Storage) -> None:
    data = bytearray(storage.get(zipped(storage, ["1.png"])))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(BadInput, match="encrypted"):
        Opened(Source(SourceKind.ZIP, blob=storage.put(bytes(data))), storage)


def test_an_archive_that_would_fill_the_disk_is_told(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = zipped(storage, {"1.png": bytes(2000), "2.png": bytes(2000)})
    monkeypatch.setattr(archives, "LARGEST_TOTAL_BYTES", 3999)
    with pytest.raises(BadInput, match="would unpack to"):
        Opened(Source(SourceKind.ZIP, blob=blob), storage)


def test_members_that_are_too_large_or_damaged_are_told_one_by_one(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = storage.get(zipped(storage, {"1.png": b"good", "2.png": bytes(2000), "3.png": b"damaged"}))
    third = data.index(b"3.png") + len(b"3.png")
    monkeypatch.setattr(archives, "LARGEST_FILE_BYTES", 1999)
    source = Source(SourceKind.ZIP, blob=storage.put(data[:third] + b"\xff\xff" + data[third + 2 :]), test=0)
    with open_source(source, storage, Path("/nowhere")) as reading:
        first, second, last = reading.images
        assert first.read() == b"good"
        with pytest.raises(UnreadableImage, match="larger than"):
            second.read()
        with pytest.raises(UnreadableImage, match="damaged in the archive"):
            last.read()


def test_the_digits_are_real_and_their_test_split_is_the_same_for_every_seed(storage: Storage) -> None:
    first = Opened(Source(SourceKind.DIGITS, seed=1, pool=50), storage)
    second = Opened(Source(SourceKind.DIGITS, seed=2, pool=50), storage)
    tests = [{one.name for one in opened.found if one.split is Split.TEST} for opened in (first, second)]
    pools = [{one.name for one in opened.found if one.split is Split.POOL} for opened in (first, second)]
    assert tests[0] == tests[1]
    assert pools[0] != pools[1]
    assert (len(tests[0]), len(pools[0])) == (400, 50)
    assert first.reading.class_names == list("0123456789")
    image = decode(first.data[0])
    assert (image.size, image.mode) == ((8, 8), "L")
    assert max(np.asarray(decode(data)).max() for data in first.data) == 255


def test_the_digits_are_split_in_the_proportion_of_their_classes(storage: Storage) -> None:
    opened = Opened(Source(SourceKind.DIGITS), storage)
    assert opened.splits == {Split.POOL: 1397, Split.TEST: 400}
    tested = Counter(one.class_name for one in opened.found if one.split is Split.TEST)
    assert min(tested.values()) >= 38
    assert max(tested.values()) <= 42


def test_a_source_gives_the_same_images_in_the_same_order_again(tmp_path: Path, storage: Storage) -> None:
    root = fill(tmp_path / "in", [f"{name}/{number}.png" for name in "abc" for number in range(30)])
    source = Source(SourceKind.FOLDER, path=str(root), pool=20, seed=5)
    first, again = Opened(source, storage), Opened(source, storage)
    assert [(one.name, one.split) for one in first.found] == [(one.name, one.split) for one in again.found]
    assert first.splits == {Split.POOL: 20, Split.TEST: 18}
    assert Counter(one.class_name for one in first.found if one.split is Split.TEST) == {"a": 6, "b": 6, "c": 6}


def test_an_unlabelled_source_holds_nothing_out_unless_told(tmp_path: Path, storage: Storage) -> None:
    root = fill(tmp_path / "in", [f"{number}.png" for number in range(10)])
    assert Opened(Source(SourceKind.FOLDER, path=str(root)), storage).splits == {Split.POOL: 10}
    assert Opened(of_folder(root, test=4), storage).splits == {Split.POOL: 6, Split.TEST: 4}


def test_more_test_images_than_there_are_is_told(tmp_path: Path, storage: Storage) -> None:
    root = fill(tmp_path / "in", ["1.png", "2.png"])
    with pytest.raises(BadInput, match="2 test images"):
        Opened(of_folder(root, test=2), storage)
    assert Opened(of_folder(root, test=2, pool=0), storage).splits == {Split.TEST: 2}


def test_a_set_of_torchvision_is_read_from_its_folder(tmp_path: Path, storage: Storage) -> None:
    write_mnist(tmp_path / "MNIST" / "raw", train=6, test=4)
    opened = Opened(Source(SourceKind.MNIST), storage, tmp_path)
    assert list(opened.classes.items())[:2] == [("train/0.png", "0"), ("train/1.png", "1")]
    assert opened.splits == {Split.POOL: 6, Split.TEST: 4}
    assert np.asarray(decode(opened.data[3])).tolist() == np.full((28, 28), 3).tolist()
    few = Opened(Source(SourceKind.MNIST, path=str(tmp_path), pool=2, test=1), storage)
    assert few.splits == {Split.POOL: 2, Split.TEST: 1}
    assert few.reading.class_names == list("0123456789")


def test_a_set_that_is_nowhere_is_told_with_its_folder(
    tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there: the network is gone
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(BadInput) as told:
        Opened(Source(SourceKind.CIFAR10), storage, tmp_path / "data")
    assert str(tmp_path / "data") in told.value.reason
    assert "--data" in told.value.remedy
    assert list((tmp_path / "data").iterdir()) == []


def write_mnist(raw: Path, train: int, test: int) -> None:
    raw.mkdir(parents=True)
    for half, count in (("train", train), ("t10k", test)):
        pixels = np.repeat(np.arange(count, dtype=np.uint8), 28 * 28).tobytes()
        (raw / f"{half}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, count, 28, 28) + pixels)
        labels = bytes(number % 10 for number in range(count))
        (raw / f"{half}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + labels)
