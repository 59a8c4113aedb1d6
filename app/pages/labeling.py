"""The labeling page and the JSON that its script speaks: claim, answers, undo, renew, release.

Every endpoint opens its transaction, calls one service, commits, and only then answers: a label that was acknowledged
is in the database. What cannot count is kept by the service and refused here, after the commit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field

from app.pages.paths import LARGEST_ID, ProjectId
from app.pages.shell import SignedIn, Wired, render
from app.records import Class, Outcome
from app.services import claiming, labeling, labeling_progress, projects
from app.services.claiming import Ask
from app.services.labeling import Answer
from app.services.labeling_progress import LabelingProgress, Nothing

router = APIRouter()

MOST_QUERIES = 50
LONGEST_LOOK_SECONDS = 86_400.0
# first choices first; a class's own key always wins
SIDE_KEYS = (("undo", "z;"), ("skip", "sk,"), ("unsure", "uq."), ("unusable", "xn/"))
SHORT_NAME = 3

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
class ShownClass:
    """A class as a button."""

    id: int
    name: str
    key: str | None

    @property
    def is_its_key(self) -> bool:
        """Whether the name says the key already, as for digits."""
        return self.name.lower() == self.key


@dataclass(frozen=True)
class ShownQuery:
    """A query as the page's script gets it."""

    query_id: int
    image_url: str
    width: int
    height: int
    source: str
    reserve: bool
    round: int
    rank: int


@dataclass(frozen=True)
class Claimed:
    """What a claim brought, or why it brought nothing."""

    queries: list[ShownQuery]
    lease_seconds: int
    progress: LabelingProgress
    nothing: Nothing | None


@dataclass(frozen=True)
class Kept:
    """An answer is in the database."""

    annotation_id: int
    replay: bool
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
class Released:
    """How many queries were given back."""

    released: int


@router.get("/projects/{project_id}/label")
def label_page(request: Request, wired: Wired, project_id: ProjectId) -> HTMLResponse:
    """Show the page; its script claims the queries."""
    with wired.database.transaction() as session:
        project = projects.get(session, project_id)
        name = project.name
        classes = [_shown_class(known) for known in projects.classes_of(session, project_id)]
    return render(
        request,
        "labeling/page.html",
        project_id=project_id,
        project_name=name,
        classes=classes,
        has_short_names=all(len(known.name) <= SHORT_NAME for known in classes),
        keys=side_keys(known.key for known in classes),
        lease_seconds=wired.settings.lease_seconds,
    )


@router.post("/projects/{project_id}/claim")
def claim(wired: Wired, person: SignedIn, project_id: ProjectId, body: ClaimBody) -> Claimed:
    """Hand out the next queries of the ranking."""
    lease_seconds = wired.settings.lease_seconds
    with wired.database.transaction() as session:
        asks = claiming.claim(session, project_id, person.id, body.count, lease_seconds)
        session.commit()
        return Claimed(
            queries=[_shown_query(ask) for ask in asks],
            lease_seconds=lease_seconds,
            progress=labeling_progress.progress(session, project_id, person.id),
            nothing=None if asks else labeling_progress.why_nothing(session, project_id, person.id),
        )


@router.post("/projects/{project_id}/answers")
def answer(wired: Wired, person: SignedIn, project_id: ProjectId, body: AnswerBody) -> Kept:
    """Keep one answer."""
    given = Answer(
        client_id=body.client_id,
        project_id=project_id,
        query_id=body.query_id,
        user_id=person.id,
        outcome=body.outcome,
        class_id=body.class_id,
        seconds_taken=body.seconds_taken,
    )
    with wired.database.transaction() as session:
        answered = labeling.answer(session, given)
        session.commit()
        if answered.refusal is not None:
            raise answered.refusal
        progress = labeling_progress.progress(session, project_id, person.id)
    return Kept(answered.annotation_id, answered.replay, progress)


@router.post("/projects/{project_id}/undo")
def undo(wired: Wired, person: SignedIn, project_id: ProjectId, body: UndoBody) -> TakenBack:
    """Take an answer back and hand out its query again."""
    with wired.database.transaction() as session:
        ask = labeling.undo(session, project_id, person.id, wired.settings.lease_seconds, body.client_id)
        session.commit()
        return TakenBack(_shown_query(ask), labeling_progress.progress(session, project_id, person.id))


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


def side_keys(class_keys: Iterable[str | None]) -> dict[str, str | None]:
    """Choose a key for each button that gives no class, leaving the classes theirs; None when all are taken."""
    taken = set(class_keys)
    chosen: dict[str, str | None] = {}
    for action, candidates in SIDE_KEYS:
        chosen[action] = next((key for key in candidates if key not in taken), None)
    return chosen


def _shown_class(known: Class) -> ShownClass:
    return ShownClass(known.id, known.name, known.key)


def _shown_query(ask: Ask) -> ShownQuery:
    return ShownQuery(
        query_id=ask.query_id,
        image_url=f"/images/{ask.image_id}",
        width=ask.width,
        height=ask.height,
        source=ask.source.value,
        reserve=ask.reserve,
        round=ask.round_number,
        rank=ask.rank,
    )
