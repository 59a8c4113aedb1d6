"""A project's page, the parts of it that change while it is open, and what an admin does there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from app.errors import BadInput
from app.pages.labeling_settings import labeling_settings
from app.pages.paths import ProjectId
from app.pages.shell import AdminOnly, Wired, Wiring, go_to, is_htmx, render
from app.records import OracleKind, ProjectState
from app.services import projects, rounds
from app.services.reporting.overview import Overview, project_overview

router = APIRouter()

Field = Annotated[str, Form(max_length=100)]
STAGES = {
    "decoding": "Decoding images",  # those that are new
    "reading": "Reading features",  # of a frozen trunk
    "fitting": "Fitting",
    "evaluating": "Evaluating",
    "scoring": "Scoring",
    "selecting": "Selecting",
}


@router.get("/projects/{project_id}")
def project_page(request: Request, wired: Wired, project_id: ProjectId) -> Response:
    """Show a project."""
    with wired.database.transaction() as session:
        overview = project_overview(session, project_id)
        settings = labeling_settings(projects.get(session, project_id), projects.classes_of(session, project_id))
    return _render(request, wired, overview, "project/page.html", settings=settings, is_saved=False)


@router.get("/projects/{project_id}/live")
def live_part(request: Request, wired: Wired, project_id: ProjectId) -> Response:
    """Show the part of the page that follows the worker and the people."""
    return _render(request, wired, _overview(wired, project_id), "project/_live.html")


@router.get("/projects/{project_id}/controls")
def controls_part(request: Request, wired: Wired, project_id: ProjectId) -> Response:
    """Show the part of the page that an admin steers with."""
    return _render(request, wired, _overview(wired, project_id), "project/_controls.html")


@router.post("/projects/{project_id}/state")
def change_state(
    request: Request, wired: Wired, _admin: AdminOnly, project_id: ProjectId, state: Field = ""
) -> Response:
    """Start or pause."""
    wanted = ProjectState(_one_of("state", state, list(ProjectState)))
    return _change(request, wired, project_id, lambda session: projects.set_state(session, project_id, wanted))


@router.post("/projects/{project_id}/oracle")
def change_oracle(
    request: Request, wired: Wired, _admin: AdminOnly, project_id: ProjectId, oracle: Field = "", noise: Field = "0"
) -> Response:
    """Switch between people and the simulated oracle; ``noise`` is in per cent."""
    kind = OracleKind(_one_of("oracle", oracle, list(OracleKind)))
    share = _number("noise", noise.replace(",", ".") or "0") / 100
    return _change(request, wired, project_id, lambda session: projects.set_oracle(session, project_id, kind, share))


@router.post("/projects/{project_id}/budget")
def change_budget(
    request: Request, wired: Wired, _admin: AdminOnly, project_id: ProjectId, budget: Field = ""
) -> Response:
    """Change how many human labels may be given."""
    labels = _number("budget", budget)
    if not labels.is_integer():
        raise BadInput("budget", f"{budget!r} is not a whole number", "use a whole number of labels")
    return _change(request, wired, project_id, lambda session: projects.set_budget(session, project_id, int(labels)))


@router.post("/projects/{project_id}/rounds")
def run_round(request: Request, wired: Wired, _admin: AdminOnly, project_id: ProjectId) -> Response:
    """Run a round now, or try again after one that failed."""
    return _change(request, wired, project_id, lambda session: rounds.request_by_admin(session, project_id))


def _change(request: Request, wired: Wiring, project_id: int, change: Callable[[Session], object]) -> Response:
    with wired.database.transaction() as session:
        change(session)
        session.commit()
    if not is_htmx(request):
        return go_to(request, f"/projects/{project_id}")
    response = _render(request, wired, _overview(wired, project_id), "project/_controls.html")
    response.headers["HX-Trigger"] = "querent:changed"
    return response


def _overview(wired: Wiring, project_id: int) -> Overview:
    with wired.database.transaction() as session:
        return project_overview(session, project_id)


def _render(request: Request, wired: Wiring, overview: Overview, template: str, **more: object) -> Response:
    return render(request, template, project=overview, workers=wired.bus.workers(), stages=STAGES, **more)


def _one_of(field: str, given: str, known: list[str]) -> str:
    if given not in known:
        raise BadInput(field, f"{given!r} is none", f"use one of: {', '.join(known)}")
    return given


def _number(field: str, given: str) -> float:
    try:
        return float(given)
    except ValueError:
        raise BadInput(field, f"{given!r} is not a number", "use digits") from None
