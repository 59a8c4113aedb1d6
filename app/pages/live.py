"""The stream of a project's events to open pages, as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse

from app.pages.paths import ProjectId
from app.pages.shell import Wired, Wiring
from app.services import projects

router = APIRouter()

RETRY_MILLISECONDS = 2000
LONGEST_SECONDS = 15 * 60.0  # then the browser comes back, and whoever was shut out meanwhile does not get in


def _existing(wired: Wired, project_id: ProjectId) -> int:
    with wired.database.transaction() as session:
        return projects.get(session, project_id).id


@router.get("/projects/{project_id}/events")
async def events(wired: Wired, project_id: int = Depends(_existing)) -> StreamingResponse:
    """Stream what happens in a project until the page closes or the server stops."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(wired, project_id), media_type="text/event-stream", headers=headers)


async def _stream(wired: Wiring, project_id: int) -> AsyncIterator[str]:
    yield f"retry: {RETRY_MILLISECONDS}\n\n"
    heard: Any = wired.fan_out.listen(project_id)
    ends_at = asyncio.get_running_loop().time() + LONGEST_SECONDS
    closing = asyncio.ensure_future(wired.closing.wait())
    upcoming = asyncio.ensure_future(anext(heard))
    try:
        while asyncio.get_running_loop().time() < ends_at:
            await asyncio.wait({closing, upcoming}, return_when=asyncio.FIRST_COMPLETED)
            if closing.done():
                break
            try:
                text = upcoming.result()
            except StopAsyncIteration:
                break
            upcoming = asyncio.ensure_future(anext(heard))
            yield f"data: {text}\n\n" if text else ": alive\n\n"
    finally:
        for waiting in (closing, upcoming):
            waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(closing, upcoming, return_exceptions=True)
        await heard.aclose()
