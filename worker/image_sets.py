"""Published image sets as arrays: the digits that scikit-learn ships, and sets that torchvision reads or downloads.

What becomes of them is for others to say: ``worker.sources`` makes files of a project from them, ``worker.benchmark``
the pools of its experiments.
"""

from __future__ import annotations

import pickle
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import BadInput

DOWNLOAD_TIMEOUT_SECONDS = 30.0
# How torchvision calls each set, and a file that shows where it looks for it.
_SETS = {
    "mnist": ("MNIST", "MNIST/raw/train-images-idx3-ubyte.gz"),
    "fashionmnist": ("FashionMNIST", "FashionMNIST/raw/train-images-idx3-ubyte.gz"),
    "cifar10": ("CIFAR10", "cifar-10-python.tar.gz"),
}
_DIGITS = "0123456789"
_PHOTOS, _BACKGROUND, _CLASSES = "101_ObjectCategories", "BACKGROUND_Google", 101
_PICTURES = {".jpg", ".jpeg", ".png", ".webp"}
# What torchvision raises for files that are missing or cut off, and for a network that is not there.
_FAILURES = (RuntimeError, OSError, ValueError, AssertionError, EOFError, pickle.UnpicklingError)

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class ImageSet:
    """A set or one half of it: ``images`` [N, H, W] grey or [N, H, W, 3] in colour, ``names`` of the classes."""

    images: Bytes
    labels: list[int]
    names: list[str]


@dataclass(frozen=True)
class ImageFiles:
    """A set as files of pictures of any size, with the class of each; ``names`` of the classes."""

    paths: list[Path]
    labels: list[int]
    names: list[str]


def read_digits() -> ImageSet:
    """Return scikit-learn's 1,797 handwritten digits, 8 x 8 grey, which come undivided."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images_NHW = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    return ImageSet(images_NHW, [int(label) for label in bunch.target], list(_DIGITS))


def read_torchvision(name: str, folder: Path) -> list[ImageSet]:
    """Return the training and the test half of ``mnist``, ``fashionmnist`` or ``cifar10``.

    Files that lie in the folder are used, packed or not; what is missing is downloaded into it.

    Raises:
        BadInput: the files are neither there nor to be had; names the folder and the remedy.
    """
    try:
        return _load(name, folder)
    except _FAILURES:  # not there, packed, or left half-unpacked by a process that was killed
        return _fetch(name, folder)


def list_caltech101(folder: Path) -> ImageFiles:
    """Return the photos of Caltech-101's 101 classes, which come undivided; the background class is left out.

    They lie as torchvision and the published archive lay them: ``caltech101/101_ObjectCategories`` or
    ``caltech-101/101_ObjectCategories`` within the folder, or that folder itself, with a folder for each class.

    Raises:
        BadInput: the photos are not there, or not of all classes; names the folder and the remedy.
    """
    places = [folder / part / _PHOTOS for part in ("caltech101", "caltech-101", "")]
    place = next((place for place in places if place.is_dir()), places[0])
    names = sorted(entry.name for entry in place.iterdir() if _is_class(entry)) if place.is_dir() else []
    if len(names) != _CLASSES:
        found = f"{len(names)} of its {_CLASSES} classes" if names else "none of its photos"
        remedy = f"unpack 101_ObjectCategories.tar.gz to {place}, or name the folder above it with --data"
        raise BadInput("Caltech101", f"{found} are in {folder}", remedy)
    by_class = [sorted(path for path in (place / name).iterdir() if path.suffix in _PICTURES) for name in names]
    labels = [label for label, paths in enumerate(by_class) for _ in paths]
    return ImageFiles([path for paths in by_class for path in paths], labels, names)


def _is_class(entry: Path) -> bool:
    return entry.is_dir() and entry.name != _BACKGROUND and not entry.name.startswith(".")


def _load(name: str, folder: Path, *, download: bool = False) -> list[ImageSet]:
    from worker.learning.vision import import_torchvision

    import_torchvision()
    from torchvision import datasets

    loaded = [getattr(datasets, _SETS[name][0])(folder, train=train, download=download) for train in (True, False)]
    # torchvision's "0 - zero" would cost the digits their keys
    names = list(_DIGITS) if name == "mnist" else list(loaded[0].classes)
    return [ImageSet(np.asarray(part.data), [int(label) for label in part.targets], names) for part in loaded]


def _fetch(name: str, folder: Path) -> list[ImageSet]:
    """Unpack and download beside the folder's own files, which are completed only when everything has been read."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with _stage(folder) as stage, _impatient():
            parts = _load(name, stage, download=True)
            _keep(stage, folder)
            return parts
    except _FAILURES as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise BadInput(
            _SETS[name][0],
            f"its files are neither in {folder} nor could they be downloaded ({' '.join(lines[:3])})",
            f"put them there (such as {folder / _SETS[name][1]}), name their folder with --data, "
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
    with made as made_at:
        for place in packed:
            shown = Path(made_at) / place.relative_to(folder)
            shown.parent.mkdir(parents=True, exist_ok=True)
            shown.symlink_to(place.resolve())
        yield Path(made_at)


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
