"""The people of a project: who may label it, adding and removing them, and what each of them did."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from app.errors import QuerentError
from app.pages.paths import ProjectId, UserId
from app.pages.project_form import read_names
from app.pages.shell import AdminOnly, Wired, go_to, render
from app.records import Outcome
from app.services import accounts, members, projects
from app.services.reporting.people_statistics import MOST_ANSWERS, PAUSE_SECONDS
from app.services.reporting.project_people import MOST_COMPARED, others, project_people

router = APIRouter()

Name = Annotated[str, Form(max_length=200)]
After = Annotated[str, Query(max_length=80)]


@router.get("/projects/{project_id}/people")
def people_of_project(
    request: Request, wired: Wired, _admin: AdminOnly, project_id: ProjectId, after: After = ""
) -> Response:
    """List a project's people with what they did there, a page at a time."""
    with wired.database.transaction() as session:
        return _page(request, session, project_id, after)


@router.post("/projects/{project_id}/people")
def add_by_name(request: Request, wired: Wired, admin: AdminOnly, project_id: ProjectId, name: Name = "") -> Response:
    """Let a person in, or show the form again with the reason why not."""
    with wired.database.transaction() as session:
        projects.get(session, project_id)
        try:
            user = accounts.find_user(session, name)
        except QuerentError as error:
            return _page(request, session, project_id, "", 422, name=name, error=error)
        members.add(session, project_id, user.id, admin.id)
        session.commit()
    return go_to(request, f"/projects/{project_id}/people")


@router.post("/projects/{project_id}/people/{user_id}/add")
def add(request: Request, wired: Wired, admin: AdminOnly, project_id: ProjectId, user_id: UserId) -> Response:
    """Let a person in by name."""
    with wired.database.transaction() as session:
        members.add(session, project_id, accounts.get_user(session, user_id).id, admin.id)
        session.commit()
    return go_to(request, f"/projects/{project_id}/people")


@router.post("/projects/{project_id}/people/{user_id}/remove")
def remove(request: Request, wired: Wired, admin: AdminOnly, project_id: ProjectId, user_id: UserId) -> Response:
    """Shut a person out of the project; what they hold goes back, what they answered stays."""
    with wired.database.transaction() as session:
        members.remove(session, project_id, accounts.get_user(session, user_id).id, admin.id)
        session.commit()
    return go_to(request, f"/projects/{project_id}/people")


@router.post("/projects/{project_id}/access")
def change_access(
    request: Request,
    wired: Wired,
    admin: AdminOnly,
    project_id: ProjectId,
    *,
    open_to: Annotated[str, Form(max_length=20)] = "named",
    groups: Annotated[str, Form(max_length=10_000)] = "",
) -> Response:
    """Open the project to everybody, or to those who were named and to groups of people, one a line."""
    with wired.database.transaction() as session:
        members.set_access(session, project_id, open_to_all=open_to == "all", groups=read_names(groups), by=admin.id)
        session.commit()
    return go_to(request, f"/projects/{project_id}/people")


def _page(
    request: Request,
    session: Session,
    project_id: int,
    after: str,
    status: int = 200,
    *,
    name: str = "",
    error: QuerentError | None = None,
) -> Response:
    return render(
        request,
        "project_people/page.html",
        status,
        project=projects.get(session, project_id),
        listed=project_people(session, project_id, after),
        others=others(session, project_id),
        known_groups=members.known_groups(session),
        name=name,
        error=error,
        skip=Outcome.SKIP,
        unsure=Outcome.UNSURE,
        most_answers=MOST_ANSWERS,
        most_compared=MOST_COMPARED,
        pause_seconds=int(PAUSE_SECONDS),
    )
