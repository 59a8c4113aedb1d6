"""A person's own page: what they did, how fast and how much in agreement, and what their projects still want."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.pages.shell import SignedIn, Wired, render
from app.records import Outcome
from app.services.reporting.own_statistics import MOST_PROJECTS, own_statistics
from app.services.reporting.people_statistics import MOST_ANSWERS, MOST_COMPARED, PAUSE_SECONDS, Period

router = APIRouter()

OUTCOMES = (
    (Outcome.LABEL, "me.labels"),
    (Outcome.SKIP, "me.skip"),
    (Outcome.UNSURE, "me.unsure"),
    (Outcome.UNUSABLE, "me.unusable"),
)


@router.get("/me")
def own_page(request: Request, wired: Wired, person: SignedIn) -> Response:
    """Show the person's statistics."""
    with wired.database.transaction() as session:
        own = own_statistics(session, person.id)
    return render(
        request,
        "me/page.html",
        own=own,
        periods=Period,
        outcomes=OUTCOMES,
        pause_seconds=int(PAUSE_SECONDS),
        most_answers=MOST_ANSWERS,
        most_compared=MOST_COMPARED,
        most_projects=MOST_PROJECTS,
    )
