"""Published image sets: the digits that scikit-learn ships, and sets that torchvision reads or downloads."""

from __future__ import annotations

import pickle
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from app.errors import BadInput
from app.services.importing import Source, SourceKind
from worker.pictures import as_png
from worker.sources.base import Entry, Found
from worker.sources.splitting import split_as_published, split_at_random

DIGITS_TEST_IMAGES = 400
DIGITS_TEST_SEED = 0
DOWNLOAD_TIMEOUT_SECONDS = 30.0
# How torchvision calls each set, and a file that shows where it looks for it.
_SETS = {
    SourceKind.MNIST: ("MNIST", "MNIST/raw/train-images-idx3-ubyte.gz"),
    SourceKind.FASHION_MNIST: ("FashionMNIST", "FashionMNIST/raw/train-images-idx3-ubyte.gz"),
    SourceKind.CIFAR10: ("CIFAR10", "cifar-10-python.tar.gz"),
}
_DIGITS = "0123456789"
# What torchvision raises for files that are missing or cut off, and for a network that is not there.
_FAILURES = (RuntimeError, OSError, ValueError, AssertionError, EOFError, pickle.UnpicklingError)

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class _Part:
    """One half of a published set."""

    images: Bytes
    labels: list[int]
    names: list[str]


def list_digits(source: Source) -> tuple[list[str], list[Found]]:
    """Return the classes and scikit-learn's 1,797 handwritten digits, 8 x 8 grey; 400 are held out by default.

    Which are held out does not depend on ``source.seed``, so that runs with different seeds are measured alike.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images_NHW = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    entries = _entries("digits", images_NHW, [str(label) for label in bunch.target])
    return list(_DIGITS), split_at_random(entries, source, DIGITS_TEST_IMAGES, DIGITS_TEST_SEED)


def list_torchvision(source: Source, data_folder: Path) -> tuple[list[str], list[Found]]:
    """Return the classes and images of MNIST, FashionMNIST or CIFAR-10, its training half for the pool.

    Files that lie in ``source.path``, or else in the data folder, are used, packed or not; what is missing is
    downloaded into it.

    Raises:
        BadInput: the files are neither there nor to be had; names the folder and the remedy.
    """
    folder = Path(source.path).expanduser() if source.path else data_folder
    try:
        parts = _load(source.kind, folder)
    except _FAILURES:  # not there, packed, or left half-unpacked by a process that was killed
        parts = _fetch(source.kind, folder)
    train, test = (
        _entries(half, part.images, [part.names[label] for label in part.labels])
        for half, part in zip(("train", "test"), parts, strict=True)
    )
    return parts[0].names, split_as_published(train, test, source)


def _load(kind: SourceKind, folder: Path, *, download: bool = False) -> list[_Part]:
    from worker.learning.vision import import_torchvision

    import_torchvision()
    from torchvision import datasets

    loaded = [getattr(datasets, _SETS[kind][0])(folder, train=train, download=download) for train in (True, False)]
    # torchvision's "0 - zero" would cost the digits their keys
    names = list(_DIGITS) if kind is SourceKind.MNIST else list(loaded[0].classes)
    return [_Part(np.asarray(part.data), [int(label) for label in part.targets], names) for part in loaded]


def _fetch(kind: SourceKind, folder: Path) -> list[_Part]:
    """Unpack and download beside the folder's own files, which are completed only when everything has been read."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with _stage(folder) as stage, _impatient():
            parts = _load(kind, stage, download=True)
            _keep(stage, folder)
            return parts
    except _FAILURES as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise BadInput(
            _SETS[kind][0],
            f"its files are neither in {folder} nor could they be downloaded ({' '.join(lines[:3])})",
            f"put them there (such as {folder / _SETS[kind][1]}), name their folder with --data, "
            "or connect the worker to the network",
        ) from error


@contextmanager
def _stage(folder: Path) -> Iterator[Path]:
    """Open a temporary folder that shows the packed files of ``folder``, within it where it can be written to."""
    packed = [place for place in folder.rglob("*.gz") if not place.is_symlink()]
    try:
        made = tempfile.TemporaryDirectory(prefix=".querent-", dir=folder)
    except OSError:
        made = tempfile.TemporaryDirectory(prefix="querent-")
    with made as name:
        for place in packed:
            shown = Path(name) / place.relative_to(folder)
            shown.parent.mkdir(parents=True, exist_ok=True)
            shown.symlink_to(place.resolve())
        yield Path(name)


def _keep(stage: Path, folder: Path) -> None:
    """Move what was downloaded and unpacked into the folder, for the next import; it is no harm if that fails."""
    with suppress(OSError):
        for place in sorted(stage.rglob("*")):
            if place.is_file() and not place.is_symlink():
                target = folder / place.relative_to(stage)
                target.parent.mkdir(parents=True, exist_ok=True)
                place.replace(target)


@contextmanager
def _impatient() -> Iterator[None]:
    """Let downloads give up on a silent server; torchvision itself would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _entries(half: str, images: Bytes, class_names: Sequence[str]) -> list[Entry]:
    digits = len(str(len(class_names) - 1))
    return [
        Entry(f"{half}/{row:0{digits}}.png", class_name, partial(_png, images[row]))
        for row, class_name in enumerate(class_names)
    ]


def _png(pixels: Bytes) -> bytes:
    return as_png(Image.fromarray(pixels))
