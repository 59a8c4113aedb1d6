"""Published image sets as sources: the digits that scikit-learn ships, and sets that torchvision reads or downloads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from app.services.importing import Source
from worker.image_sets import Bytes, ImageSet, read_digits, read_torchvision
from worker.pictures import as_png
from worker.sources.base import Entry, Found
from worker.sources.splitting import split_as_published, split_at_random

DIGITS_TEST_IMAGES = 400
DIGITS_TEST_SEED = 0


def list_digits(source: Source) -> tuple[list[str], list[Found]]:
    """Return the classes and scikit-learn's 1,797 handwritten digits, 8 x 8 grey; 400 are held out by default.

    Which are held out does not depend on ``source.seed``, so that runs with different seeds are measured alike.
    """
    digits = read_digits()
    return digits.names, split_at_random(_entries("digits", digits), source, DIGITS_TEST_IMAGES, DIGITS_TEST_SEED)


def list_torchvision(source: Source, data_folder: Path) -> tuple[list[str], list[Found]]:
    """Return the classes and images of MNIST, FashionMNIST or CIFAR-10, its training half for the pool.

    Files that lie in ``source.path``, or else in the data folder, are used, packed or not; what is missing is
    downloaded into it.

    Raises:
        BadInput: the files are neither there nor to be had; names the folder and the remedy.
    """
    folder = Path(source.path).expanduser() if source.path else data_folder
    train, test = read_torchvision(source.kind.value, folder)
    return train.names, split_as_published(_entries("train", train), _entries("test", test), source)


def _entries(half: str, images: ImageSet) -> list[Entry]:
    class_names: Sequence[str] = [images.names[label] for label in images.labels]
    digits = len(str(len(class_names) - 1))
    return [
        Entry(f"{half}/{row:0{digits}}.png", class_name, partial(_png, images.images[row]))
        for row, class_name in enumerate(class_names)
    ]


def _png(pixels: Bytes) -> bytes:
    return as_png(Image.fromarray(pixels))
