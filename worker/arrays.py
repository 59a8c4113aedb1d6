"""A project's images as one memory-mapped array of pixels, kept on this machine and extended as images arrive.

The file is a cache: rows never change, so its length says which are done, and whoever deletes it only makes the next
round decode again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from app.records import Image, Project
from app.storage import Storage
from worker.learning.features import FeatureTable
from worker.pictures import as_array, decode

FEATURES = ".features"
CHUNK = 256  # images decoded between two writes

Report = Callable[[int, int], None]


class PoolArrays:
    """Arrays of pixels under a cache folder, one file to a project, side and number of channels."""

    def __init__(self, folder: Path, storage: Storage) -> None:
        self._folder = folder
        self._storage = storage

    def path(self, project: Project, side: int, channels: int) -> Path:
        """Return where a project's pixels are; a project's birth is part of it, since ids start anew elsewhere."""
        born = int(project.created_at.timestamp())
        return self._folder / f"project-{project.id}-{born}" / f"{side}x{side}x{channels}.u8"

    def extend(self, path: Path, side: int, channels: int, hashes: Sequence[str], report: Report) -> NDArray[np.uint8]:
        """Return the pixels of all images as a read-only memory map, decoding those that the file lacks.

        Args:
            hashes: content hashes by row.
            report: called with the images decoded so far and how many there are.
        Returns:
            images_NHWC, uint8.
        Raises:
            UnreadableImage: a blob is no image any more.
            NotFound: a blob is gone from the storage.
        """
        size = side * side * channels
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            done = file.tell() // size
            file.truncate(done * size)  # a killed process may have left half an image
            while done < len(hashes):
                chunk = hashes[done : done + CHUNK]
                file.write(np.stack([self._pixels(name, side, channels) for name in chunk]).tobytes())
                done += len(chunk)
                report(done, len(hashes))
        shape = (len(hashes), side, side, channels)
        if not hashes:
            return np.empty(shape, np.uint8)
        return np.memmap(path, np.uint8, mode="r", shape=shape)

    def _pixels(self, name: str, side: int, channels: int) -> NDArray[np.uint8]:
        return as_array(decode(self._storage.get(name)), side, channels)


def read_table(path: Path) -> FeatureTable | None:
    """Return the features that were kept beside a project's pixels, None if there are none that can be read."""
    file = path.with_suffix(FEATURES)
    return FeatureTable.from_bytes(file.read_bytes()) if file.exists() else None


def write_table(path: Path, table: FeatureTable) -> None:
    """Keep features beside a project's pixels, in place of those that were there; a reader sees one or the other."""
    file = path.with_suffix(FEATURES)
    half = file.with_suffix(".half")
    half.write_bytes(table.to_bytes())
    half.replace(file)


def channels_of(session: Session, project_id: int) -> int:
    """Return 1 if all of a project's images are grey, else 3."""
    coloured = exists().where(Image.project_id == project_id, ~Image.grey)
    return 3 if session.scalar(select(coloured)) else 1


def shorter_side_of(session: Session, project_id: int) -> int:
    """Return the pixels on the shorter side of a project's images, the median; 0 without images."""
    median = func.percentile_disc(0.5).within_group(func.least(Image.width, Image.height))
    return session.scalar(select(median).where(Image.project_id == project_id)) or 0


def hashes_by_row(session: Session, project_id: int) -> list[str]:
    """Return the content hash of every image of a project, in row order."""
    return list(session.scalars(select(Image.content_hash).where(Image.project_id == project_id).order_by(Image.row)))
