"""The ledger: what models labelled, and an admin's word on it."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from app.errors import BadInput
from app.pages.paths import After, EntryId, ProjectId, read_id
from app.pages.shell import AdminOnly, Wired, go_to, is_htmx, render
from app.records import Outcome
from app.services import auditing, projects
from app.services.reporting.ledger_entries import LedgerFilter, Shown, list_entries
from app.services.reporting.ledger_summary import ledger_summary

router = APIRouter()

WITHOUT_A_CLASS = (Outcome.UNSURE, Outcome.UNUSABLE)


@router.get("/projects/{project_id}/ledger")
def ledger_page(
    request: Request,
    wired: Wired,
    project_id: ProjectId,
    *,
    show: Shown = Shown.STANDING,
    label: str = "",
    after: After = None,
) -> Response:
    """List a project's ledger, narrowed as asked; an unknown class narrows nothing."""
    wanted = LedgerFilter(show, read_id(label), after)
    with wired.database.transaction() as session:
        project = projects.get(session, project_id)
        summary = ledger_summary(session, project)
        listed = list_entries(session, project_id, wanted)
    chosen = {"show": show.value, "label": label}
    return render(
        request,
        "ledger/page.html",
        project=project,
        ledger=summary,
        listed=listed,
        wanted=wanted,
        shown_choices=list(Shown),
        next_page="" if listed.next_after is None else urlencode({**chosen, "after": listed.next_after}),
        first_page=urlencode(chosen),
    )


@router.post("/projects/{project_id}/ledger/{entry_id}")
def correct_entry(
    request: Request,
    wired: Wired,
    admin: AdminOnly,
    project_id: ProjectId,
    entry_id: EntryId,
    *,
    answer: Annotated[str, Form(max_length=20)] = "",
) -> Response:
    """Label the image of an entry, or say that this cannot be done; ``answer`` is a class's id or an outcome."""
    outcome, class_id = _read_answer(answer)
    with wired.database.transaction() as session:
        auditing.correct(session, project_id, entry_id, admin.id, outcome=outcome, class_id=class_id)
        session.commit()
        if not is_htmx(request):
            return go_to(request, f"/projects/{project_id}/ledger")
        project = projects.get(session, project_id)
        listed = list_entries(session, project_id, LedgerFilter(entry_id=entry_id))
    return render(request, "ledger/_entry.html", project=project, row=listed.rows[0], classes=listed.classes)


def _read_answer(text: str) -> tuple[Outcome, int | None]:
    if text in set(WITHOUT_A_CLASS):
        return Outcome(text), None
    class_id = read_id(text)
    if class_id is None:
        raise BadInput("answer", f"{text!r} is none", "choose a class, unsure or unusable")
    return Outcome.LABEL, class_id
