"""How a round saw the whole pool: the scores of all images, sorted and thinned out so that a page can draw them.

The worker keeps them as one numpy archive in storage; it is read without numpy, which the web process does not have.
"""

from __future__ import annotations

import ast
import io
import sys
from array import array
from dataclasses import dataclass
from functools import lru_cache
from zipfile import BadZipFile, ZipFile

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import BadInput
from app.records import Round, RoundState
from app.storage import Storage

POINTS = 200
_MAGIC = b"\x93NUMPY\x01\x00"


@dataclass(frozen=True)
class PoolScores:
    """Scores of the images that round ``number`` could ask about, the highest first.

    ``ranks`` are places among all ``images``, from 1 on; ``scores`` stand there. The unit is the acquisition's own.
    """

    number: int
    acquisition: str
    images: int
    ranks: tuple[int, ...]
    scores: tuple[float, ...]


def latest_pool_scores(session: Session, storage: Storage, project_id: int) -> PoolScores | None:
    """Return how the latest finished round saw the pool; None before there is one.

    Raises:
        NotFound: the file is not in the storage.
        BadInput: it is damaged.
        Unavailable: the storage does not answer.
    """
    latest = session.execute(
        select(Round.number, Round.recipe, Round.scores_hash)
        .where(Round.project_id == project_id, Round.state == RoundState.DONE, Round.scores_hash.is_not(None))
        .order_by(Round.number.desc())
        .limit(1)
    ).first()
    if latest is None or latest.scores_hash is None:
        return None
    images, ranks, scores = _thinned(storage, latest.scores_hash)
    return PoolScores(latest.number, _acquisition(latest.recipe), images, ranks, scores)


def read_scores(data: bytes) -> array[float]:
    """Return the array ``scores`` of a numpy archive of little-endian float32 numbers.

    Raises:
        BadInput: anything else.
    References: numpy.lib.format, version 1.0.
    """
    try:
        with ZipFile(io.BytesIO(data)) as archive:
            scores = _numbers(archive.read("scores.npy"))
    except (BadZipFile, KeyError, ValueError, TypeError, SyntaxError) as error:
        raise BadInput("scores", "their file is damaged", "run another round") from error
    if sys.byteorder == "big":
        scores.byteswap()
    return scores


def _numbers(part: bytes) -> array[float]:
    start = len(_MAGIC) + 2
    end = start + int.from_bytes(part[len(_MAGIC) : start], "little")
    header = ast.literal_eval(part[start:end].decode("latin1"))
    if part[: len(_MAGIC)] != _MAGIC or header["descr"] != "<f4" or header["shape"] != ((len(part) - end) // 4,):
        raise ValueError(header)
    return array("f", part[end:])


@lru_cache(maxsize=64)
def _thinned(storage: Storage, scores_hash: str) -> tuple[int, tuple[int, ...], tuple[float, ...]]:
    """Sort and thin out one file; files never change, so what was found once is remembered."""
    ordered = sorted(read_scores(storage.get(scores_hash)), reverse=True)
    last = len(ordered) - 1
    places = sorted({round(last * point / (POINTS - 1)) for point in range(POINTS)}) if ordered else []
    return len(ordered), tuple(place + 1 for place in places), tuple(ordered[place] for place in places)


def _acquisition(recipe: dict[str, object] | None) -> str:
    stored = (recipe or {}).get("acquisition", "")
    return str(stored.get("name", "")) if isinstance(stored, dict) else str(stored)
