"""What labeling pages ask for all the time: the next queries, and that answers are kept.

Each request is one turn on one thread (``app.pages.turns``): who asks, what is asked, the work, and the reply. It opens
its transaction, calls one service, commits, and only then answers: a label that was acknowledged is in the database.
What cannot count is kept by the service and refused here, after the commit.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from app.errors import QuerentError
from app.pages.images import shown
from app.pages.paths import LARGEST_ID, ProjectId
from app.pages.shell import Person, Wired, Wiring
from app.pages.turns import take_turn
from app.records import Outcome, UnusableReason
from app.services import claiming, labeling, labeling_progress
from app.services.claiming import Ask
from app.services.labeling import Answer, Answered
from app.services.labeling_progress import LabelingProgress, Nothing
from app.services.reporting.check_results import Feedback, feedback
from app.storage import Storage

router = APIRouter()

MOST_QUERIES = 50
MOST_ANSWERS = 100
LONGEST_LOOK_SECONDS = 86_400.0
BROUGHT_PIXELS = 4096  # of the largest image that comes along with its query instead of being asked for
BROUGHT_BYTES = 8192

RowId = Annotated[int, Field(ge=1, le=LARGEST_ID)]


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
    in_cluster: bool = False
    corrects: UUID | None = None


class AnswersBody(Body):
    """Several answers in the order in which they were given."""

    answers: Annotated[list[AnswerBody], Field(min_length=1, max_length=MOST_ANSWERS)]


@dataclass(frozen=True)
class ShownQuery:
    """A query as the page's script gets it; ``picture`` holds a small image itself."""

    query_id: int
    image_url: str
    picture: str | None
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


@router.post("/projects/{project_id}/claim")
async def claim(request: Request, wired: Wired, project_id: ProjectId) -> Response:
    """Hand out the next queries of the ranking."""

    def act(person: Person, body: ClaimBody) -> Claimed:
        return _claim(wired, person, project_id, body.count)

    return await take_turn(request, wired, ClaimBody, act)


@router.post("/projects/{project_id}/answers")
async def answer(request: Request, wired: Wired, project_id: ProjectId) -> Response:
    """Keep one answer."""

    def act(person: Person, body: AnswerBody) -> Kept:
        return _keep(wired, project_id, _answer(project_id, person.id, body))

    return await take_turn(request, wired, AnswerBody, act)


@router.post("/projects/{project_id}/answers/batch")
async def answer_all(request: Request, wired: Wired, project_id: ProjectId) -> Response:
    """Keep the answers of a whole page with one commit; each has its own id and its own fate."""

    def act(person: Person, body: AnswersBody) -> AllKept:
        return _keep_all(wired, person, project_id, [_answer(project_id, person.id, each) for each in body.answers])

    return await take_turn(request, wired, AnswersBody, act)


def shown_query(ask: Ask, picture: str | None = None) -> ShownQuery:
    """Return a query as the page's script gets it, with its picture if it comes along."""
    return ShownQuery(
        query_id=ask.query_id,
        image_url=f"/images/{ask.image_id}",
        picture=picture,
        width=ask.width,
        height=ask.height,
        reserve=ask.reserve,
        round=ask.round_number,
    )


def picture_of(storage: Storage, ask: Ask) -> str | None:
    """Return a small image as an address that holds it; None where the page should fetch it.

    Half of what people who label ask for are images, and a digit's file is smaller than the request for it. Only what
    lies on this machine comes along: people would wait for each file of an object store, one after the other.
    """
    if not storage.is_near or ask.width * ask.height > BROUGHT_PIXELS:
        return None
    try:
        data, media_type = shown(storage.get(ask.content_hash), None)
    except QuerentError:
        return None  # the page asks for it, and says what is wrong with it
    return f"data:{media_type};base64,{b64encode(data).decode()}" if len(data) <= BROUGHT_BYTES else None


def _claim(wired: Wiring, person: Person, project_id: int, count: int) -> Claimed:
    lease_seconds = wired.settings.lease_seconds
    with wired.database.transaction() as session:
        asks = claiming.claim(session, project_id, person.id, count, lease_seconds)
        session.commit()
    with wired.database.reading() as session:
        progress = labeling_progress.progress(session, project_id, person.id)
        nothing = None if asks else labeling_progress.why_nothing(session, project_id, person.id)
    queries = [shown_query(ask, picture_of(wired.storage, ask)) for ask in asks]
    return Claimed(queries, lease_seconds, progress, nothing)


def _keep(wired: Wiring, project_id: int, given: Answer) -> Kept:
    with wired.database.transaction() as session:
        answered = labeling.answer(session, given)
        session.commit()
    if answered.refusal is not None:
        raise answered.refusal
    with wired.database.reading() as session:
        progress = labeling_progress.progress(session, project_id, given.user_id)
        told = feedback(session, project_id, answered.annotation_id) if answered.is_check else None
    return Kept(answered.annotation_id, answered.replay, progress, told)


def _keep_all(wired: Wiring, person: Person, project_id: int, given: list[Answer]) -> AllKept:
    with wired.database.transaction() as session:
        kept = labeling.answer_all(session, given)
        session.commit()
    with wired.database.reading() as session:
        progress = labeling_progress.progress(session, project_id, person.id)
    return AllKept([_kept(each.client_id, fate) for each, fate in zip(given, kept, strict=True)], progress)


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
        in_cluster=body.in_cluster,
        corrects=body.corrects,
    )


def _kept(client_id: UUID, fate: Answered | QuerentError) -> OneKept:
    if isinstance(fate, QuerentError):
        return OneKept(client_id, None, replay=False, refusal=fate.as_json())
    refusal = None if fate.refusal is None else fate.refusal.as_json()
    return OneKept(client_id, fate.annotation_id, fate.replay, refusal)
