"""The history of rounds: the list of them, and one round with its queries."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from app.pages.paths import Before, ProjectId, RoundNumber, read_id
from app.pages.shell import Wired, render
from app.records import Outcome, QuerySource
from app.services import projects
from app.services.reporting.history import list_rounds
from app.services.reporting.round_detail import QueryFilter, Shown, round_detail

router = APIRouter()


@router.get("/projects/{project_id}/rounds")
def rounds_page(request: Request, wired: Wired, project_id: ProjectId, before: Before = None) -> Response:
    """List a project's rounds, newest first."""
    with wired.database.transaction() as session:
        project = projects.get(session, project_id)
        listed = list_rounds(session, project_id, before)
    return render(request, "rounds/page.html", project=project, listed=listed)


@router.get("/projects/{project_id}/rounds/{number}")
def round_page(
    request: Request,
    wired: Wired,
    project_id: ProjectId,
    number: RoundNumber,
    *,
    show: Shown = Shown.ALL,
    source: str = "",
    label: str = "",
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> Response:
    """Show one round and its queries, narrowed as asked; an unknown source or answer narrows nothing.

    ``label`` is the id of a class or the name of an outcome that gives none.
    """
    wanted = QueryFilter(show, _source(source), read_id(label), _outcome(label), after)
    with wired.database.transaction() as session:
        project = projects.get(session, project_id)
        detail = round_detail(session, project_id, number, wanted)
    chosen = {"show": show.value, "source": source, "label": label}
    return render(
        request,
        "rounds/detail.html",
        project=project,
        detail=detail,
        wanted=wanted,
        sources=list(QuerySource),
        shown_choices=list(Shown),
        other_outcomes=[outcome for outcome in Outcome if outcome is not Outcome.LABEL],
        next_query="" if detail.next_after is None else urlencode({**chosen, "after": detail.next_after}),
        first_query=urlencode(chosen),
    )


def _source(text: str) -> QuerySource | None:
    return QuerySource(text) if text in set(QuerySource) else None


def _outcome(text: str) -> Outcome | None:
    return Outcome(text) if text in set(Outcome) else None
