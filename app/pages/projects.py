"""The first page: all projects."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.pages.paths import Before
from app.pages.shell import SignedIn, Wired, render
from app.services.reporting.listing import list_projects

router = APIRouter()


@router.get("/")
def projects_page(request: Request, wired: Wired, person: SignedIn, before: Before = None) -> Response:
    """List the projects that the person may see, newest first."""
    with wired.database.transaction() as session:
        listed = list_projects(session, before, None if person.is_admin else person.id)
    # one button on the page is the primary one: the first project that asks something
    first = next((card.id for card in listed.cards if card.image_count and not card.is_importing), None)
    return render(request, "projects/page.html", listed=listed, first=first)
