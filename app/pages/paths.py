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
Before = Annotated[int | None, Query(ge=0, le=LARGEST_ID)]
