"""The review page: an admin decides, one image and one key at a time, where people disagreed or were unsure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from app.errors import BadInput
from app.pages.paths import ImageId, ProjectId, read_id
from app.pages.shell import AdminOnly, Wired, go_to, is_htmx, render
from app.records import Class, Outcome, Project
from app.services import projects, reviewing
from app.services.keys import Action, action_keys
from app.services.reporting.review_queue import ReviewQueue, review_queue

router = APIRouter()

BUTTONS = 40  # of classes; the others are chosen from a list
Row = Annotated[int, Query(ge=-1, le=2**31 - 1)]
RowField = Annotated[int, Form(ge=-1, le=2**31 - 1)]


@dataclass(frozen=True)
class Choice:
    """A class as a button."""

    id: int
    name: str
    key: str | None
    is_given: bool


@dataclass(frozen=True)
class Shown:
    """What the page shows: the image that waits and the buttons that decide; ``said`` is read out."""

    queue: ReviewQueue
    choices: tuple[Choice, ...]
    others: tuple[Choice, ...]
    keys: dict[Action, str | None]
    said: str


@router.get("/projects/{project_id}/review")
def review_page(request: Request, wired: Wired, project_id: ProjectId, after: Row = -1) -> Response:
    """Show the first image that waits behind the row ``after``; from the start again when none does."""
    with wired.database.transaction() as session:
        project = projects.get(session, project_id)
        shown = _shown(session, project, after)
    template = "review/_item.html" if is_htmx(request) else "review/page.html"
    return render(request, template, project=project, shown=shown)


@router.post("/projects/{project_id}/review/{image_id}")
def decide(
    request: Request,
    wired: Wired,
    admin: AdminOnly,
    project_id: ProjectId,
    image_id: ImageId,
    *,
    answer: Annotated[str, Form(max_length=20)] = "",
    row: RowField = -1,
) -> Response:
    """Decide about an image, and show the next one; ``answer`` is a class's id or "unusable"."""
    class_id = read_id(answer)
    if class_id is None and answer != Outcome.UNUSABLE:
        raise BadInput("answer", f"{answer!r} is none", "choose a class or unusable")
    outcome = Outcome.UNUSABLE if class_id is None else Outcome.LABEL
    with wired.database.transaction() as session:
        reviewing.decide(session, project_id, image_id, admin.id, outcome=outcome, class_id=class_id)
        session.commit()
        project = projects.get(session, project_id)
        names = {known.id: known.name for known in projects.classes_of(session, project_id)}
        shown = _shown(session, project, row, f"Decided: {'unusable' if class_id is None else names[class_id]}.")
    if not is_htmx(request):
        return go_to(request, f"/projects/{project_id}/review?after={row}")
    return render(request, "review/_item.html", project=project, shown=shown)


@router.post("/projects/{project_id}/review")
def take_back(request: Request, wired: Wired, admin: AdminOnly, project_id: ProjectId) -> Response:
    """Take the latest decision back, and show its image again."""
    with wired.database.transaction() as session:
        image_id = reviewing.take_back(session, project_id, admin.id)
        session.commit()
        project = projects.get(session, project_id)
        row = reviewing.row_of(session, image_id)
        shown = _shown(session, project, row - 1, "Taken back.")
    if not is_htmx(request):
        return go_to(request, f"/projects/{project_id}/review?after={row - 1}")
    return render(request, "review/_item.html", project=project, shown=shown)


def _shown(session: Session, project: Project, after: int, said: str = "") -> Shown:
    queue = review_queue(session, project.id, after)
    known = projects.classes_of(session, project.id)
    given = frozenset[int]() if queue.item is None else queue.item.given
    choices = tuple(_choice(each, given) for each in sorted(known, key=lambda each: each.key is None))
    left = f"{said} {queue.waiting} left." if queue.waiting else f"{said} Nothing waits any more."
    return Shown(
        queue=queue,
        choices=choices[:BUTTONS],
        others=choices[BUTTONS:],
        keys=action_keys(project.action_keys, [each.key for each in known]),
        said=left if said else "",
    )


def _choice(known: Class, given: frozenset[int]) -> Choice:
    return Choice(known.id, known.name, known.key, known.id in given)
