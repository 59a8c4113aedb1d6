"""How a folder's or an archive's files lie, and which class each has: one sub-folder a class, or no sub-folders."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

from app.services.importing import BrokenFile
from worker.sources.base import Entry, Listing

_LEFT_BY_SYSTEMS = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
_NUMBERS = re.compile(r"(\d+)")

Parts = tuple[str, ...]


def parts_of(path: str) -> Parts | None:
    """Return the folders and the name of a path within a source, or None for what systems hide or leave behind.

    Whatever would lead out of the source is dropped, so the parts name a place within it.
    """
    parts = tuple(clean(part) for part in PurePosixPath(path.replace("\\", "/")).parts if part not in {"/", ".", ".."})
    hidden = any(part.startswith(".") or part in _LEFT_BY_SYSTEMS for part in parts)
    return None if hidden or not parts else parts


def clean(name: str) -> str:
    """Return a file's name as text that a database can keep, spelled the same whichever system wrote it."""
    text = name.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
    return unicodedata.normalize("NFC", text).strip()


def natural_key(parts: Parts) -> tuple[tuple[tuple[bool, int, str], ...], ...]:
    """Return what sorts ``2.png`` before ``10.png``, folder by folder."""
    return tuple(
        tuple((not piece.isdecimal(), int(piece) if piece.isdecimal() else 0, piece) for piece in _NUMBERS.split(part))
        for part in parts
    )


def arrange(files: Mapping[Parts, Callable[[], bytes]], labelled: bool, may_be_wrapped: bool) -> Listing:
    """Give every file its class and put all in natural order.

    Args:
        files: what reads each file, by its place.
        labelled: False to take all files without a class, wherever they lie.
        may_be_wrapped: one top folder that holds everything is ignored, as archives often have it.
    Returns:
        All files; if some lie in sub-folders, those beside the sub-folders are refused, having no class.
    """
    skipped = 1 if may_be_wrapped and _is_wrapped(files) else 0
    has_classes = labelled and any(len(parts) > skipped + 1 for parts in files)
    entries, refused = [], []
    for parts in sorted(files, key=natural_key):
        name = "/".join(parts[skipped:])
        if has_classes and len(parts) == skipped + 1:
            refused.append(BrokenFile(name, "it lies beside the class folders, in none of them"))
        else:
            entries.append(Entry(name, parts[skipped] if has_classes else None, files[parts]))
    return Listing(entries, refused)


def _is_wrapped(files: Mapping[Parts, object]) -> bool:
    return len({parts[0] for parts in files}) == 1 and all(len(parts) > 1 for parts in files)
