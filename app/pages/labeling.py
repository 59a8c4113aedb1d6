"""The labeling page and what its script asks for: claim, answers, undo, renew, release, own answers, and reasons.

Every endpoint opens its transaction, calls one service, commits, and only then answers: a label that was acknowledged
is in the database. What cannot count is kept by the service and refused here, after the commit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field

from app.errors import QuerentError
from app.pages.labeling_shown import labeling_page, why_asked
from app.pages.paths import LARGEST_ID, Before, ProjectId, QueryId
from app.pages.shell import Person, SignedIn, Wired, Wiring, render, texts_for
from app.records import Outcome, UnusableReason
from app.services import claiming, labeling, labeling_progress, members, projects
from app.services.claiming import Ask
from app.services.labeling import Answer, Answered
from app.services.labeling_progress import LabelingProgress, Nothing
from app.services.reporting.asked_because import asked_because
from app.services.reporting.check_results import Feedback, feedback
from app.services.reporting.own_answers import OwnAnswer, own_answers

router = APIRouter()

MOST_QUERIES = 50
MOST_ANSWERS = 100
LONGEST_LOOK_SECONDS = 86_400.0

RowId = Annotated[int, Field(ge=1, le=LARGEST_ID)]
QueryIds = Annotated[list[RowId], Field(max_length=MOST_QUERIES * 4)]


class Body(BaseModel):
    """What a script may send: nothing but the fields that are named."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ClaimBody(Body):
    """How many queries the page has room for."""

    count: int = Field(ge=1, le=MOST_QUERIES)


class AnswerBody(Body):
    """One answer, with an id that the page made."""

    client_id: UUID
    query_id: RowId
    outcome: Outcome
    class_id: RowId | None = None
    seconds_taken: float | None = Field(None, ge=0, le=LONGEST_LOOK_SECONDS, allow_inf_nan=False)
    reason: UnusableReason | None = None
    saw_prediction: bool = False
    in_group: bool = False
    corrects: UUID | None = None


class AnswersBody(Body):
    """Several answers in the order in which they were given."""

    answers: Annotated[list[AnswerBody], Field(min_length=1, max_length=MOST_ANSWERS)]


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
class ShownQuery:
    """A query as the page's script gets it."""

    query_id: int
    image_url: str
    width: int
    height: int
    reserve: bool
    round: int


@dataclass(frozen=True)
class Claimed:
    """What a claim brought, or why it brought nothing."""

    queries: list[ShownQuery]
    lease_seconds: int
    progress: LabelingProgress
    nothing: Nothing | None


@dataclass(frozen=True)
class Kept:
    """An answer is in the database; ``feedback`` tells the known answer to a gold image, where the project does so."""

    annotation_id: int
    replay: bool
    progress: LabelingProgress
    feedback: Feedback | None = None


@dataclass(frozen=True)
class OneKept:
    """What became of one of several answers: kept, or why it does not count."""

    client_id: UUID
    annotation_id: int | None
    replay: bool
    refusal: dict[str, str] | None


@dataclass(frozen=True)
class AllKept:
    """What became of several answers, in their order."""

    answers: list[OneKept]
    progress: LabelingProgress


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


@router.post("/projects/{project_id}/claim")
async def claim(wired: Wired, person: SignedIn, project_id: ProjectId, body: ClaimBody) -> Claimed:
    """Hand out the next queries of the ranking, when it is their turn."""
    return await run_sync(_claim, wired, person, project_id, body.count, limiter=wired.turns)


def _claim(wired: Wiring, person: Person, project_id: int, count: int) -> Claimed:
    lease_seconds = wired.settings.lease_seconds
    with wired.database.transaction() as session:
        asks = claiming.claim(session, project_id, person.id, count, lease_seconds)
        session.commit()
    with wired.database.reading() as session:
        return Claimed(
            queries=[shown_query(ask) for ask in asks],
            lease_seconds=lease_seconds,
            progress=labeling_progress.progress(session, project_id, person.id),
            nothing=None if asks else labeling_progress.why_nothing(session, project_id, person.id),
        )


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


@router.post("/projects/{project_id}/answers")
async def answer(wired: Wired, person: SignedIn, project_id: ProjectId, body: AnswerBody) -> Kept:
    """Keep one answer, when it is its turn."""
    return await run_sync(_keep, wired, person, project_id, body, limiter=wired.turns)


def _keep(wired: Wiring, person: Person, project_id: int, body: AnswerBody) -> Kept:
    with wired.database.transaction() as session:
        answered = labeling.answer(session, _answer(project_id, person.id, body))
        session.commit()
    if answered.refusal is not None:
        raise answered.refusal
    with wired.database.reading() as session:
        progress = labeling_progress.progress(session, project_id, person.id)
        told = feedback(session, project_id, answered.annotation_id) if answered.is_check else None
    return Kept(answered.annotation_id, answered.replay, progress, told)


@router.post("/projects/{project_id}/answers/batch")
def answer_all(wired: Wired, person: SignedIn, project_id: ProjectId, body: AnswersBody) -> AllKept:
    """Keep the answers of a whole page with one commit; each has its own id and its own fate."""
    with wired.database.transaction() as session:
        given = [_answer(project_id, person.id, each) for each in body.answers]
        kept = labeling.answer_all(session, given)
        session.commit()
        progress = labeling_progress.progress(session, project_id, person.id)
    return AllKept([_kept(each.client_id, fate) for each, fate in zip(given, kept, strict=True)], progress)


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
        held = claiming.renew(session, project_id, person.id, body.query_ids, lease_seconds)
        session.commit()
    return Renewed(held, lease_seconds)


@router.post("/projects/{project_id}/release")
def release(wired: Wired, person: SignedIn, project_id: ProjectId, body: ReleaseBody) -> Released:
    """Give queries back."""
    with wired.database.transaction() as session:
        count = claiming.release(session, project_id, person.id, body.query_ids)
        session.commit()
    return Released(count)


def shown_query(ask: Ask) -> ShownQuery:
    """Return a query as the page's script gets it."""
    return ShownQuery(
        query_id=ask.query_id,
        image_url=f"/images/{ask.image_id}",
        width=ask.width,
        height=ask.height,
        reserve=ask.reserve,
        round=ask.round_number,
    )


def _answer(project_id: int, user_id: int, body: AnswerBody) -> Answer:
    return Answer(
        client_id=body.client_id,
        project_id=project_id,
        query_id=body.query_id,
        user_id=user_id,
        outcome=body.outcome,
        class_id=body.class_id,
        seconds_taken=body.seconds_taken,
        reason=body.reason,
        saw_prediction=body.saw_prediction,
        in_group=body.in_group,
        corrects=body.corrects,
    )


def _kept(client_id: UUID, fate: Answered | QuerentError) -> OneKept:
    if isinstance(fate, QuerentError):
        return OneKept(client_id, None, replay=False, refusal=fate.as_json())
    refusal = None if fate.refusal is None else fate.refusal.as_json()
    return OneKept(client_id, fate.annotation_id, fate.replay, refusal)


def _shown_answer(own: OwnAnswer) -> ShownAnswer:
    return ShownAnswer(own.client_id, shown_query(own.ask), own.outcome, own.class_id, own.class_name, own.reason)
