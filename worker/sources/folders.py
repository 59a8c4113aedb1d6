"""Images in a folder on the worker's machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from app.errors import BadInput, UnreadableImage
from app.services.importing import BrokenFile, Source
from worker.sources.base import LARGEST_FILE_BYTES, Listing
from worker.sources.layout import Parts, arrange, parts_of


def list_folder(source: Source) -> Listing:
    """List the files of ``source.path``, those in nested folders too; hidden ones are left out.

    A link to a file within the folder is a file; links that lead out of it and links to folders are refused.

    Raises:
        BadInput: there is no such folder, or it may not be read.
    """
    root = Path(source.path or "").expanduser()
    if not source.path or not root.is_dir():
        raise BadInput(
            f"folder {source.path}",
            "there is no such folder on the worker's machine",
            "name a folder that the worker can read, or upload a .zip file",
        )
    try:
        root = root.resolve(strict=True)
        os.scandir(root).close()
    except OSError as error:
        raise _unreadable(source, error) from error
    files: dict[Parts, Callable[[], bytes]] = {}
    refused: list[BrokenFile] = []
    for place in _walk(root, refused):
        parts = parts_of(place.relative_to(root).as_posix())
        if parts is None:
            continue
        if reason := _refusal(place, root):
            refused.append(BrokenFile("/".join(parts), reason))
        else:
            files[parts] = partial(read_file, place)
    listing = arrange(files, source.labelled, may_be_wrapped=False)
    return Listing(listing.entries, [*refused, *listing.refused])


def read_file(place: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        UnreadableImage: it is too large or may not be read.
    """
    try:
        with place.open("rb") as file:
            data = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UnreadableImage(place.name, f"it cannot be read ({reason})", "make it readable") from error
    if len(data) > LARGEST_FILE_BYTES:
        raise too_large(place.name)
    return data


def too_large(name: str) -> UnreadableImage:
    """Return the error for a file that is larger than any picture that is read."""
    limit = LARGEST_FILE_BYTES // (1024 * 1024)
    return UnreadableImage(name, f"it is larger than {limit} MB", "make it smaller")


def _walk(root: Path, refused: list[BrokenFile]) -> list[Path]:
    def remember(error: OSError) -> None:
        name = Path(error.filename).relative_to(root).as_posix()
        refused.append(BrokenFile(name, f"the folder cannot be read ({error.strerror})"))

    places = []
    for folder, folders, names in os.walk(root, onerror=remember):
        here = Path(folder)
        places += [here / name for name in names]
        places += [here / name for name in folders if (here / name).is_symlink()]
        folders[:] = [name for name in folders if not name.startswith(".")]
    return sorted(places)


def _refusal(place: Path, root: Path) -> str | None:
    """Say why a place is not read; a pipe, for one, would never end."""
    if place.is_symlink():
        if place.is_dir():
            return "it is a link to a folder, which is not followed"
        if not place.resolve().is_relative_to(root):
            return "it is a link that leads out of the folder"
    return None if place.is_file() else "it is no regular file"


def _unreadable(source: Source, error: OSError) -> BadInput:
    return BadInput(f"folder {source.path}", f"it cannot be read ({error.strerror})", "let the worker's user read it")
