"""Blobs by content hash: image files, weights and score arrays, in a folder or an object store.

A blob's name is the sha256 of its bytes, so putting the same bytes twice keeps them once and a half-written blob never
has a name.
"""

from __future__ import annotations

import hashlib
import io
import secrets
from typing import BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from app.errors import NotFound, Unavailable

_CHUNK = 1 << 20


class Storage:
    """Blobs under one folder or fsspec URL.

    Raises:
        Unavailable: from any method, when the folder or the object store cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._files, self._root = fsspec.core.url_to_fs(url)

    @property
    def is_near(self) -> bool:
        """Whether blobs are files on this machine, so that reading a small one takes no time to speak of."""
        return isinstance(self._files, LocalFileSystem)

    def put(self, data: bytes) -> str:
        """Keep the bytes and return their sha256 in hexadecimal."""
        name = hashlib.sha256(data).hexdigest()
        if not self.has(name):
            self._write(io.BytesIO(data), name)
        return name

    def put_stream(self, stream: BinaryIO) -> str:
        """Keep what can be read from ``stream``, which must be seekable, without holding it in memory."""
        digest = hashlib.sha256()
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
        name = digest.hexdigest()
        if not self.has(name):
            stream.seek(0)
            self._write(stream, name)
        return name

    def get(self, name: str) -> bytes:
        """Return a blob's bytes; raise NotFound if there is none of that name."""
        with self.open(name) as blob:
            return blob.read()

    def open(self, name: str) -> BinaryIO:
        """Open a blob for reading; raise NotFound if there is none of that name."""
        try:
            stream: BinaryIO = self._files.open(self._path(name), "rb")
        except FileNotFoundError:
            raise NotFound(
                f"blob {name[:12]}", f"it is not in the storage {self.url}", "restore the storage from a backup"
            ) from None
        except OSError as error:
            raise self._unavailable(error) from error
        return stream

    def has(self, name: str) -> bool:
        """Say whether a blob of that name is kept."""
        try:
            return bool(self._files.exists(self._path(name)))
        except OSError as error:
            raise self._unavailable(error) from error

    def _write(self, stream: BinaryIO, name: str) -> None:
        path = self._path(name)
        part = f"{path}.{secrets.token_hex(6)}.part"
        try:
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            with self._files.open(part, "wb") as target:
                while chunk := stream.read(_CHUNK):
                    target.write(chunk)
            self._files.mv(part, path)
        except OSError as error:
            raise self._unavailable(error) from error

    def _path(self, name: str) -> str:
        return f"{self._root}/{name[:2]}/{name}"  # 256 folders: more cost more time to make than they save

    def _unavailable(self, error: OSError) -> Unavailable:
        return Unavailable(
            "storage", f"{self.url} cannot be used ({error})", "check QUERENT_STORAGE_URL and its rights"
        )
