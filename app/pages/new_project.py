"""Making a project: the form, the uploaded archive, and the import that it starts."""

from __future__ import annotations

import zipfile

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.datastructures import FormData, UploadFile

from app.errors import BadInput, NameTaken, NotFound, QuerentError
from app.pages.project_form import SOURCES, ReadForm, empty_form, message_of, read_form, typed_form
from app.pages.shell import AdminOnly, Person, Posted, Wired, Wiring, go_to, render
from app.recipes import GROUPS, SIZES, ParameterKind
from app.services import importing, projects
from app.services.importing import Source, SourceKind

router = APIRouter()

PATHS_THAT_TAKE_ARCHIVES = ("/projects",)
MAIN_GROUPS = ("network", "acquisition")
MAIN_SIZES = ("batch_size", "seed_set")
FIELDS_OF_ERRORS = {
    "name": "name",
    "project": "name",
    "budget": "budget",
    "overlap": "overlap",
    "class": "classes",
    "user": "members",
    "group": "groups",
    "groups": "groups",
}


@router.get("/projects/new")
def new_project_page(request: Request, wired: Wired, _admin: AdminOnly) -> Response:
    """Show the form."""
    return _form(request, wired, empty_form(), {})


@router.post("/projects")
def make_project(request: Request, wired: Wired, admin: AdminOnly, posted: Posted) -> Response:
    """Make a project and import its images, or show the form again with what was typed and what is wrong."""
    typed = typed_form(posted)
    read = read_form(typed)
    if read.kind is SourceKind.ZIP:
        fault = _fault_of_archive(posted)
        if fault is not None:
            read.errors["archive"] = fault
    if read.errors or read.project is None:
        return _form(request, wired, typed, read.errors)
    try:
        project_id = _make(wired, admin, read, _stored_archive(wired, posted, read))
    except (BadInput, NameTaken, NotFound) as error:
        return _form(request, wired, typed, {_field_of(error): message_of(error)})
    return go_to(request, f"/projects/{project_id}")


def _make(wired: Wiring, admin: Person, read: ReadForm, blob: str | None) -> int:
    if read.project is None:
        raise ValueError("the form has errors")
    source = Source(read.kind, read.path, blob, read.pool, read.test, read.project.recipe.seed, read.labelled)
    with wired.database.transaction() as session:
        project = projects.create(session, read.project, admin.id)
        importing.request_import(session, project.id, source, read.start)
        session.commit()
        return project.id


def _fault_of_archive(posted: FormData) -> str | None:
    upload = posted.get("archive")
    if not isinstance(upload, UploadFile) or not upload.filename:
        return "None was chosen: choose a .zip file."
    if not zipfile.is_zipfile(upload.file):
        return f"{upload.filename} is no zip archive: pack the folder of images as .zip and choose that."
    return None


def _stored_archive(wired: Wiring, posted: FormData, read: ReadForm) -> str | None:
    upload = posted.get("archive")
    if read.kind is not SourceKind.ZIP or not isinstance(upload, UploadFile):
        return None
    upload.file.seek(0)
    return wired.storage.put_stream(upload.file)


def _field_of(error: QuerentError) -> str:
    return FIELDS_OF_ERRORS.get(error.subject.partition(" ")[0], "name")


def _form(request: Request, wired: Wiring, typed: dict[str, str], errors: dict[str, str]) -> Response:
    return render(
        request,
        "new_project/page.html",
        422 if errors else 200,
        typed=typed,
        errors=errors,
        sources=SOURCES,
        main_groups=[group for group in GROUPS if group.name in MAIN_GROUPS],
        more_groups=[group for group in GROUPS if group.name not in MAIN_GROUPS],
        main_sizes=[size for size in SIZES if size.name in MAIN_SIZES],
        more_sizes=[size for size in SIZES if size.name not in MAIN_SIZES],
        more_open=any(_is_folded(name) for name in errors),
        kinds=ParameterKind,
        upload_megabytes=wired.settings.upload_megabytes,
    )


def _is_folded(name: str) -> bool:
    folded = {group.name for group in GROUPS if group.name not in MAIN_GROUPS}
    folded |= {size.name for size in SIZES if size.name not in MAIN_SIZES} | {"overlap"}
    return name.partition(".")[0] in folded
