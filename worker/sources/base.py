"""What every source gives: images in an order that is always the same, each read when its turn comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from app.records import Split
from app.services.importing import BrokenFile

LARGEST_FILE_BYTES = 256 * 1024 * 1024  # a file of the 80 million pixels that are read at most, uncompressed


@dataclass(frozen=True)
class Entry:
    """A file of a source, before it is decided what it is for.

    ``read`` returns its bytes, or raises UnreadableImage with the reason.
    """

    name: str
    class_name: str | None
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Found:
    """An image of a source on its way into a project; ``read`` is its entry's."""

    name: str
    class_name: str | None
    split: Split
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Listing:
    """What a folder or an archive holds: the files to read, and those that cannot be imported whatever they hold."""

    entries: Sequence[Entry]
    refused: Sequence[BrokenFile] = ()


@dataclass(frozen=True)
class Reading:
    """An open source.

    Attributes:
        class_names: every class that one of its images can have.
        total: number of images and refused files.
        images: the images; can be gone through once.
        refused: files that were found and are not among the images.
    """

    class_names: Sequence[str]
    total: int
    images: Iterator[Found]
    refused: Sequence[BrokenFile] = field(default=())
