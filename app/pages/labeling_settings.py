"""What an admin chooses for the labeling page of a project: its keys, and whether reasons are shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.errors import BadInput
from app.pages.paths import LARGEST_ID, ProjectId
from app.pages.shell import AdminOnly, Posted, Wired, Wiring, go_to, is_htmx, render
from app.records import Class, Project, ReasonsShown
from app.services import projects
from app.services.keys import Action, action_keys, letters_type, set_keys

router = APIRouter()

CLASSES_SHOWN = 100


@dataclass(frozen=True)
class KeyField:
    """A field of the form: what it gives a key to, and the key now."""

    name: str
    title: str
    key: str


@dataclass(frozen=True)
class LabelingSettings:
    """The forms as they are now; ``more`` counts the classes that have no field, since they have no key either."""

    project_id: int
    classes: tuple[KeyField, ...]
    more: int
    actions: tuple[KeyField, ...]
    letters_type: bool
    reasons_shown: ReasonsShown


def labeling_settings(project: Project, known: Sequence[Class]) -> LabelingSettings:
    """Return the forms of a project, those classes first that have a key."""
    class_keys = [each.key for each in known]
    shown = sorted(known, key=lambda each: each.key is None)[:CLASSES_SHOWN]
    keys = action_keys(project.action_keys, class_keys)
    return LabelingSettings(
        project_id=project.id,
        classes=tuple(KeyField(f"class.{each.id}", each.name, each.key or "") for each in shown),
        more=len(known) - len(shown),
        actions=tuple(KeyField(f"action.{name}", name.capitalize(), key or "") for name, key in keys.items()),
        letters_type=letters_type(class_keys),
        reasons_shown=project.reasons_shown,
    )


@router.post("/projects/{project_id}/keys")
def change_keys(request: Request, wired: Wired, _admin: AdminOnly, project_id: ProjectId, posted: Posted) -> Response:
    """Give classes and actions other keys, all or none of them."""
    class_keys, chosen = _read_keys(posted)
    return _change(request, wired, project_id, lambda session: set_keys(session, project_id, class_keys, chosen))


@router.post("/projects/{project_id}/reasons")
def change_reasons(
    request: Request,
    wired: Wired,
    _admin: AdminOnly,
    project_id: ProjectId,
    shown: Annotated[str, Form(max_length=20)] = "",
) -> Response:
    """Let people see why an image is asked, or not."""
    if shown not in set(ReasonsShown):
        raise BadInput("shown", f"{shown!r} is none", f"use one of: {', '.join(ReasonsShown)}")
    wanted = ReasonsShown(shown)
    return _change(request, wired, project_id, lambda session: projects.set_reasons_shown(session, project_id, wanted))


def _read_keys(posted: FormData) -> tuple[dict[int, str], dict[Action, str]]:
    class_keys: dict[int, str] = {}
    chosen: dict[Action, str] = {}
    for name, value in posted.items():
        kind, _, rest = name.partition(".")
        if not isinstance(value, str):
            continue
        if kind == "class" and rest.isdecimal() and int(rest) <= LARGEST_ID:
            class_keys[int(rest)] = value
        elif kind == "action" and rest in set(Action):
            chosen[Action(rest)] = value
    return class_keys, chosen


def _change(request: Request, wired: Wiring, project_id: int, change: Callable[[Session], object]) -> Response:
    with wired.database.transaction() as session:
        change(session)
        settings = labeling_settings(projects.get(session, project_id), projects.classes_of(session, project_id))
        session.commit()
    if not is_htmx(request):
        return go_to(request, f"/projects/{project_id}#labeling-settings")
    return render(request, "project/_labeling.html", settings=settings, is_saved=True)
