"""Where images come from: ``open_source`` turns what an import's row names into images in a fixed order.

Adapters list and read files. What a file holds is for ``worker.pictures`` to say, and what becomes of it for
``worker.imports``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import assert_never

from app.errors import BadInput
from app.services.importing import Source, SourceKind
from app.storage import Storage
from worker.sources.archives import open_archive
from worker.sources.base import Found, Listing, Reading
from worker.sources.folders import list_folder
from worker.sources.published import list_digits, list_torchvision
from worker.sources.splitting import split_at_random

__all__ = ["Found", "Reading", "open_source"]


@contextmanager
def open_source(source: Source, storage: Storage, data_folder: Path) -> Iterator[Reading]:
    """Open a source, whose images can be read while this is open: always the same images in the same order.

    Args:
        source: what to import.
        storage: holds an uploaded archive.
        data_folder: where published sets lie, or are downloaded to, when the source names no folder.
    Raises:
        BadInput: the source is not there, holds nothing, or is of no use as a whole.
        NotFound, Unavailable: an archive cannot be had from the storage.
    """
    match source.kind:
        case SourceKind.DIGITS:
            yield _reading(*list_digits(source), source)
        case SourceKind.MNIST | SourceKind.FASHION_MNIST | SourceKind.CIFAR10:
            yield _reading(*list_torchvision(source, data_folder), source)
        case SourceKind.FOLDER:
            yield _from_listing(f"folder {source.path}", list_folder(source), source)
        case SourceKind.ZIP:
            with open_archive(source, storage) as listing:
                yield _from_listing("archive", listing, source)
        case _:
            assert_never(source.kind)


def _from_listing(subject: str, listing: Listing, source: Source) -> Reading:
    if not listing.entries:
        remedy = "fill it with images, in one sub-folder a class or, unlabelled, without sub-folders"
        raise BadInput(subject, "it holds no images", remedy)
    names = sorted({entry.class_name for entry in listing.entries if entry.class_name is not None})
    found = split_at_random(listing.entries, source)
    return Reading(names, len(found) + len(listing.refused), iter(found), listing.refused)


def _reading(class_names: Sequence[str], found: Sequence[Found], source: Source) -> Reading:
    if source.labelled:
        return Reading(class_names, len(found), iter(found))
    return Reading((), len(found), (replace(image, class_name=None) for image in found))
