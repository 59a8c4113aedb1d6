"""Ids in addresses: within what the database can hold, so that a made-up one is a plain 404."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

LARGEST_ID = 2**63 - 1

ProjectId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
ImageId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
QueryId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
UserId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
RoundNumber = Annotated[int, Path(ge=0, le=2**31 - 1)]
EntryId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
After = Annotated[int | None, Query(ge=1, le=LARGEST_ID)]
Before = Annotated[int | None, Query(ge=0, le=LARGEST_ID)]


def read_id(text: str) -> int | None:
    """Return the id that a field of a form names, None if it names none that can be."""
    return int(text) if text.isascii() and text.isdecimal() and 1 <= int(text) <= LARGEST_ID else None
