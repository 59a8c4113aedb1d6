"""Images in an uploaded zip archive, read one by one; nothing is ever unpacked under a name that the archive chose."""

from __future__ import annotations

import lzma
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO

from app.errors import BadInput, UnreadableImage
from app.services.importing import Source
from app.storage import Storage
from worker.sources.base import LARGEST_FILE_BYTES, Listing
from worker.sources.folders import too_large
from worker.sources.layout import Parts, arrange, parts_of

LARGEST_TOTAL_BYTES = 100 * 1024**3  # uncompressed; an archive may hold thousands of times its own size
_ENCRYPTED = 0x1
# What zipfile and its decompressors raise on damaged members, and on methods (NotImplementedError) they do not know.
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError, RuntimeError)


@contextmanager
def open_archive(source: Source, storage: Storage) -> Iterator[Listing]:
    """List the files of the archive ``source.blob``, readable while this is open.

    Raises:
        BadInput: it is no zip archive, is damaged or encrypted, or would unpack to more than is allowed.
        NotFound: the storage does not have it.
    """
    with tempfile.TemporaryFile(prefix="querent-") as copy:
        with storage.open(source.blob or "") as blob:
            shutil.copyfileobj(blob, copy)
        with _opened(copy) as archive:
            yield arrange(_files(archive), source.labelled, may_be_wrapped=True)


def _opened(copy: IO[bytes]) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(copy)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OSError) as error:
        raise BadInput("archive", f"it is no zip archive, or a damaged one ({error})", "pack it again") from error
    members = archive.infolist()
    if any(member.flag_bits & _ENCRYPTED for member in members):
        raise BadInput("archive", "it is encrypted", "pack it again without a password")
    total = sum(member.file_size for member in members)
    if total > LARGEST_TOTAL_BYTES:
        gigabytes = LARGEST_TOTAL_BYTES // 1024**3
        raise BadInput(
            "archive",
            f"it would unpack to {total / 1024**3:.0f} GB, and {gigabytes} GB are allowed",
            "pack it into several archives",
        )
    return archive


def _files(archive: zipfile.ZipFile) -> dict[Parts, Callable[[], bytes]]:
    files: dict[Parts, Callable[[], bytes]] = {}
    for member in archive.infolist():
        parts = parts_of(member.filename)
        if parts is not None and not member.is_dir():
            files[parts] = partial(_read, archive, member)
    return files


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Return a member's bytes; zipfile reads no more than the size that was checked, whatever follows."""
    if member.file_size > LARGEST_FILE_BYTES:
        raise too_large(member.filename)
    try:
        return archive.read(member)
    except _DAMAGE as error:
        reason = f"it is damaged in the archive ({error})"
        raise UnreadableImage(member.filename, reason, "pack it again") from error
