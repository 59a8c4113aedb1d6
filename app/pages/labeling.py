"""The labeling page and what its script asks for now and then: undo, renew, release, own answers, and reasons.

What it asks for all the time, queries and that answers are kept, is ``app.pages.answering``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from pydantic import Field

from app.pages.answering import MOST_QUERIES, Body, RowId, ShownQuery, shown_query
from app.pages.labeling_shown import labeling_page, why_asked
from app.pages.paths import Before, ProjectId, QueryId
from app.pages.shell import SignedIn, Wired, render, texts_for
from app.records import Outcome, UnusableReason
from app.services import labeling, labeling_progress, leases, members, projects
from app.services.labeling_progress import LabelingProgress
from app.services.reporting.asked_because import asked_because
from app.services.reporting.own_answers import OwnAnswer, own_answers

router = APIRouter()

QueryIds = Annotated[list[RowId], Field(max_length=MOST_QUERIES * 4)]


class UndoBody(Body):
    """Which answer to take back; the person's latest when none is named."""

    client_id: UUID | None = None


class RenewBody(Body):
    """The queries that the page still holds."""

    query_ids: QueryIds


class ReleaseBody(Body):
    """The queries to give back, all when none are named; a beacon brings its form token along."""

    query_ids: QueryIds | None = None
    form_token: str | None = None


@dataclass(frozen=True)
class TakenBack:
    """An answer is revoked and its query is held again."""

    query: ShownQuery
    progress: LabelingProgress


@dataclass(frozen=True)
class Renewed:
    """The queries that are held for another lease."""

    query_ids: list[int]
    lease_seconds: int


@dataclass(frozen=True)
class ShownAnswer:
    """One of the person's own answers."""

    client_id: UUID
    query: ShownQuery
    outcome: Outcome
    class_id: int | None
    class_name: str | None
    reason: UnusableReason | None


@dataclass(frozen=True)
class ShownAnswers:
    """A page of the person's own answers, newest first; ``next_before`` is where to go on."""

    answers: list[ShownAnswer]
    next_before: int | None


@dataclass(frozen=True)
class Released:
    """How many queries were given back."""

    released: int


@router.get("/projects/{project_id}/label")
def label_page(request: Request, wired: Wired, person: SignedIn, project_id: ProjectId) -> HTMLResponse:
    """Show the page; its script claims the queries. Who has left finds one that only sends the answers that wait."""
    with wired.database.transaction() as session:
        if not person.is_admin and not members.check(session, project_id, person.id, was_enough=True):
            texts = json.dumps(texts_for(request).under("labeling.script"))
            return render(request, "labeling/left.html", 404, project_id=project_id, texts=texts)
        project = projects.get(session, project_id)
        page = labeling_page(project, projects.classes_of(session, project_id), texts_for(request))
    return render(request, "labeling/page.html", lease_seconds=wired.settings.lease_seconds, **vars(page))


@router.get("/projects/{project_id}/answers")
def list_own_answers(wired: Wired, person: SignedIn, project_id: ProjectId, before: Before = None) -> ShownAnswers:
    """Return the person's own answers, a page at a time."""
    with wired.database.transaction() as session:
        project = projects.get(session, project_id)
        read = own_answers(session, project.id, person.id, before)
    return ShownAnswers([_shown_answer(own) for own in read.answers], read.next_before)


@router.get("/projects/{project_id}/queries/{query_id}/why")
def why(request: Request, wired: Wired, person: SignedIn, project_id: ProjectId, query_id: QueryId) -> HTMLResponse:
    """Show why an image is asked, as a part of the page."""
    with wired.database.transaction() as session:
        because = asked_because(session, project_id, query_id, person.id)
    t = texts_for(request)
    how, facts = why_asked(because, t)
    return render(request, "labeling/_why.html", because=because, how=how, facts=facts, share=t.percent)


@router.post("/projects/{project_id}/undo")
def undo(wired: Wired, person: SignedIn, project_id: ProjectId, body: UndoBody) -> TakenBack:
    """Take an answer back and hand out its query again."""
    with wired.database.transaction() as session:
        ask = labeling.undo(session, project_id, person.id, wired.settings.lease_seconds, body.client_id)
        session.commit()
        return TakenBack(shown_query(ask), labeling_progress.progress(session, project_id, person.id))


@router.post("/projects/{project_id}/renew")
def renew(wired: Wired, person: SignedIn, project_id: ProjectId, body: RenewBody) -> Renewed:
    """Hold queries for longer."""
    lease_seconds = wired.settings.lease_seconds
    with wired.database.transaction() as session:
        held = leases.renew(session, project_id, person.id, body.query_ids, lease_seconds)
        session.commit()
    return Renewed(held, lease_seconds)


@router.post("/projects/{project_id}/release")
def release(wired: Wired, person: SignedIn, project_id: ProjectId, body: ReleaseBody) -> Released:
    """Give queries back."""
    with wired.database.transaction() as session:
        count = leases.release(session, project_id, person.id, body.query_ids)
        session.commit()
    return Released(count)


def _shown_answer(own: OwnAnswer) -> ShownAnswer:
    return ShownAnswer(own.client_id, shown_query(own.ask), own.outcome, own.class_id, own.class_name, own.reason)
