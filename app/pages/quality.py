"""The quality page: how well people agree, how they do on checks, and what an admin chooses about it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.pages.paths import ProjectId
from app.pages.shell import Wired, render
from app.services import projects
from app.services.reporting.quality import agreement_report
from app.services.reporting.review_queue import waiting_for_review

router = APIRouter()


@router.get("/projects/{project_id}/quality")
def quality_page(request: Request, wired: Wired, project_id: ProjectId) -> Response:
    """Show how well people agree in a project."""
    with wired.database.transaction() as session:
        project = projects.get(session, project_id)
        report = agreement_report(session, project_id)
        waiting = waiting_for_review(session, project_id)
    return render(request, "quality/page.html", project=project, report=report, waiting=waiting)
