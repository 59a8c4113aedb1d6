"""How many requests one web process works on at once: few, so that each is done soon.

Threads share Python's interpreter lock, and answers to a project wait for its row. With the forty threads that are
usual, most wait for each other while they hold connections and rows that others wait for; requests that wait for a free
thread hold nothing. With forty threads, an answer took ten times as long where fifty people label (``make bench-load``:
558 ms in the median, 53 with five).
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import current_default_thread_limiter, run_sync
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, TypeAdapter, ValidationError

from app.pages.shell import Person, Wiring, current_person

Body = TypeVar("Body", bound=BaseModel)

THREADS = 8  # of ordinary requests
LABELING = 3  # more, of claims and answers: they lock rows, and so wait for each other
SWITCH_SECONDS = 0.001  # after which a thread makes way for others; the event loop is one of them


def labeling_turns() -> CapacityLimiter:
    """Return the turns that claims and answers take."""
    return CapacityLimiter(LABELING)


async def take_turn(request: Request, wired: Wiring, kind: type[Body], act: Callable[[Person, Body], Any]) -> Response:
    """Do all that a claim or an answer needs on one thread: find out who asks, read the body, act, write the reply.

    Each change of threads waits for Python's interpreter, twice; as dependencies of FastAPI these would be two more.

    Args:
        request: what came, with JSON as its body.
        wired: the application's wiring.
        kind: what the body must be.
        act: does it, and returns a dataclass.
    Raises:
        NotSignedIn, NotFound, NotAMember: as ``current_person`` says, whatever the body is.
        RequestValidationError: the body is not of that kind.
    """
    raw = await request.body()

    def turn() -> Response:
        person = current_person(request, wired)
        reply = act(person, _read(kind, raw))
        return Response(_writer_of(reply.__class__).dump_json(reply), media_type="application/json")

    return await run_sync(turn, limiter=wired.turns)


def _read(kind: type[Body], raw: bytes) -> Body:
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_context=False)]
        raise RequestValidationError(found) from error


@cache
def _writer_of(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def share_fairly() -> None:
    """Let few requests run at once in this process from now on; called by its event loop when it starts."""
    current_default_thread_limiter().total_tokens = THREADS
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()  # modules and templates stay for ever, and need not be looked through again and again
