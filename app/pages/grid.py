"""The grid's page and what its script asks for: pages of one predicted class or cluster, and giving back what is not
of it.

Answers, undo, renewing and releasing are those of the labeling page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from pydantic import Field

from app.pages.answering import Body, RowId, ShownQuery, picture_of, shown_query
from app.pages.grid_shown import grid_page
from app.pages.labeling import Released
from app.pages.paths import ProjectId
from app.pages.shell import SignedIn, Wired, render, texts_for
from app.services import grids, labeling_progress, projects
from app.services.grids import OpenClass, OpenCluster, Wish
from app.services.labeling_progress import LabelingProgress, Nothing

router = APIRouter()

MOST_ON_A_PAGE = 96


class PageBody(Body):
    """How many images a page holds, and of which class or cluster the person would like it.

    ``with_clusters`` says that the script can show pages of clusters, which that of the release before cannot.
    """

    count: int = Field(ge=1, le=MOST_ON_A_PAGE)
    class_id: RowId | None = None
    cluster: RowId | None = None
    with_clusters: bool = False


class PutBackBody(Body):
    """The queries that do not belong on their page."""

    query_ids: Annotated[list[RowId], Field(max_length=MOST_ON_A_PAGE)]


@dataclass(frozen=True)
class ClaimedPage:
    """A page of one class or cluster, or why there is none; more can be taken of ``classes`` and ``clusters``."""

    class_id: int | None
    class_name: str | None
    cluster: int | None
    queries: list[ShownQuery]
    classes: list[OpenClass]
    clusters: list[OpenCluster]
    lease_seconds: int
    progress: LabelingProgress
    nothing: Nothing | None


@router.get("/projects/{project_id}/grid")
def show_grid(request: Request, wired: Wired, project_id: ProjectId) -> HTMLResponse:
    """Show the page; its script claims the queries."""
    with wired.database.transaction() as session:
        project = projects.get(session, project_id)
        page = grid_page(project, projects.classes_of(session, project_id), texts_for(request))
    return render(request, "grid/page.html", lease_seconds=wired.settings.lease_seconds, **vars(page))


@router.post("/projects/{project_id}/grid/claim")
def claim_page(wired: Wired, person: SignedIn, project_id: ProjectId, body: PageBody) -> ClaimedPage:
    """Hand out a page of queries about images of one predicted class, or that look alike."""
    lease_seconds = wired.settings.lease_seconds
    wish = Wish(body.class_id, body.cluster, body.with_clusters)
    with wired.database.transaction() as session:
        page = grids.take_page(session, project_id, person.id, body.count, lease_seconds, wish=wish)
        session.commit()
        return ClaimedPage(
            class_id=page.class_id,
            class_name=page.class_name,
            cluster=page.cluster,
            queries=[shown_query(ask, picture_of(wired.storage, ask)) for ask in page.asks],
            classes=grids.open_classes(session, project_id, person.id),
            clusters=grids.open_clusters(session, project_id, person.id),
            lease_seconds=lease_seconds,
            progress=labeling_progress.progress(session, project_id, person.id),
            nothing=None if page.asks else grids.why_no_page(session, project_id, person.id),
        )


@router.post("/projects/{project_id}/grid/put-back")
def put_back(wired: Wired, person: SignedIn, project_id: ProjectId, body: PutBackBody) -> Released:
    """Give back what does not belong on its page, to be asked one by one."""
    with wired.database.transaction() as session:
        count = grids.put_back(session, project_id, person.id, body.query_ids)
        session.commit()
    return Released(count)
