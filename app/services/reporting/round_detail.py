"""One round: what it reached in figures, and its queries with score, rank, source, answers and who gave them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from app.errors import NotFound
from app.records import (
    CHECKS,
    Annotation,
    Class,
    Image,
    LabelRule,
    Model,
    Outcome,
    Query,
    QuerySource,
    Role,
    Round,
    RoundReason,
    RoundState,
    UnusableReason,
    User,
)
from app.services.reporting.answered import has_answer, is_answered
from app.services.reporting.ledger_entries import ToldEntry, past_entries
from app.services.reporting.listing import Thumb
from app.services.reporting.wording import RecipeLine, recipe_lines

QUERIES_SHOWN = 60
CONFUSION_CLASSES = 20


class Shown(StrEnum):
    """Which queries of a round are listed."""

    ALL = "all"
    ANSWERED = "answered"
    UNANSWERED = "unanswered"


@dataclass(frozen=True)
class QueryFilter:
    """What the list of queries is narrowed to; ``after`` is the rank to go on from."""

    shown: Shown = Shown.ALL
    source: QuerySource | None = None
    class_id: int | None = None
    outcome: Outcome | None = None
    after: int = 0


@dataclass(frozen=True)
class Given:
    """One standing answer to a query; ``reason`` says why an image is unusable."""

    outcome: Outcome
    class_name: str | None
    reason: UnusableReason | None
    person: str
    by_simulation: bool
    seconds_taken: float | None
    saw_prediction: bool
    in_cluster: bool


@dataclass(frozen=True)
class LabelNow:
    """The label that an image has now: by what rule it was made, and how certain it is."""

    class_name: str
    rule: LabelRule | None
    certainty: float | None


@dataclass(frozen=True)
class QueryRow:
    """One image asked about; ``top`` are the network's likeliest classes with their probabilities.

    ``models`` are the labels that models gave it, ended or not, the latest first.
    """

    thumb: Thumb
    rank: int
    source: QuerySource
    reserve: bool
    score: float | None
    propensity: float | None
    top: tuple[tuple[str, float], ...]
    answers: tuple[Given, ...]
    closed: bool
    label: LabelNow | None
    models: tuple[ToldEntry, ...]


@dataclass(frozen=True)
class RoundDetail:
    """Everything on a round's page; ``confusion`` has true classes as rows and predicted ones as columns."""

    number: int
    state: RoundState
    reason: RoundReason
    labels: int | None
    error: str | None
    requested_at: datetime
    finished_at: datetime | None
    metrics: Mapping[str, Any]
    timings: Mapping[str, float]
    recipe: tuple[RecipeLine, ...]
    class_names: tuple[str, ...]
    per_class_accuracy: tuple[tuple[str, float | None], ...]
    confusion: tuple[tuple[int, ...], ...]
    classes: tuple[tuple[int, str], ...]
    queries: tuple[QueryRow, ...]
    next_after: int | None


def round_detail(session: Session, project_id: int, number: int, wanted: QueryFilter) -> RoundDetail:
    """Return a round's page; raise NotFound if the project has no round of this number."""
    found = session.execute(
        select(Round, Model.classes)
        .join(Model, Model.round_id == Round.id, isouter=True)
        .where(Round.project_id == project_id, Round.number == number)
    ).first()
    if found is None:
        raise NotFound(f"round {number}", "the project has no such round", "choose one from the history")
    this, outputs = found
    classes = tuple(
        session.execute(
            select(Class.id, Class.name).where(Class.project_id == project_id).order_by(Class.position)
        ).all()
    )
    names = dict(classes)
    queries, next_after = _queries(session, this, wanted, names)
    metrics = this.metrics or {}
    output_names = tuple(names.get(class_id, str(class_id)) for class_id in outputs or [])
    confusion = metrics.get("confusion") or []
    return RoundDetail(
        number=this.number,
        state=this.state,
        reason=this.reason,
        labels=this.labels,
        error=this.error,
        requested_at=this.requested_at,
        finished_at=this.finished_at,
        metrics=metrics,
        timings=this.timings or {},
        recipe=recipe_lines(this.recipe),
        class_names=output_names,
        per_class_accuracy=tuple(zip(output_names, metrics.get("per_class_accuracy") or [], strict=False)),
        confusion=tuple(tuple(row) for row in confusion)
        if len(confusion) == len(output_names) <= CONFUSION_CLASSES
        else (),
        classes=classes,
        queries=queries,
        next_after=next_after,
    )


def _queries(
    session: Session, this: Round, wanted: QueryFilter, names: Mapping[int, str]
) -> tuple[tuple[QueryRow, ...], int | None]:
    rows = session.execute(
        select(Query, Image)
        .join(Image, Image.id == Query.image_id)
        .where(Query.round_id == this.id, Query.rank > wanted.after, Query.source.not_in(CHECKS), *_conditions(wanted))
        .order_by(Query.rank)
        .limit(QUERIES_SHOWN + 1)
    ).all()
    shown = rows[:QUERIES_SHOWN]
    answers = _answers(session, [query.id for query, _ in shown], names)
    models = past_entries(session, [query.image_id for query, _ in shown], names)
    listed = tuple(
        QueryRow(
            thumb=Thumb(query.image_id, image.width, image.height),
            rank=query.rank,
            source=query.source,
            reserve=query.reserve,
            score=query.score,
            propensity=query.propensity,
            top=_top(query.parts, names),
            answers=answers.get(query.id, ()),
            closed=query.closed_at is not None,
            label=_label(image, names),
            models=models.get(query.image_id, ()),
        )
        for query, image in shown
    )
    return listed, listed[-1].rank if len(rows) > QUERIES_SHOWN else None


def _label(image: Image, names: Mapping[int, str]) -> LabelNow | None:
    if image.label_class_id is None:
        return None
    name = names.get(image.label_class_id, str(image.label_class_id))
    return LabelNow(name, image.label_rule, image.label_certainty)


def _conditions(wanted: QueryFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.source is not None:
        conditions.append(Query.source == wanted.source)
    if wanted.class_id is not None:
        conditions.append(is_answered(Annotation.class_id == wanted.class_id))
    if wanted.outcome is not None:
        conditions.append(has_answer(wanted.outcome))
    match wanted.shown:
        case Shown.ANSWERED:
            conditions.append(is_answered())
        case Shown.UNANSWERED:
            conditions.append(~is_answered())
        case Shown.ALL:
            pass
    return conditions


def _answers(session: Session, query_ids: Sequence[int], names: Mapping[int, str]) -> dict[int, tuple[Given, ...]]:
    rows = session.execute(
        select(
            Annotation.query_id,
            Annotation.outcome,
            Annotation.class_id,
            Annotation.reason,
            Annotation.seconds_taken,
            Annotation.saw_prediction,
            Annotation.in_cluster,
            User.name,
            User.role,
        )
        .join(User, User.id == Annotation.user_id)
        .where(Annotation.query_id.in_(query_ids), Annotation.revoked_at.is_(None), Annotation.counted)
        .order_by(Annotation.id)
    )
    answers: dict[int, list[Given]] = defaultdict(list)
    for query_id, outcome, class_id, reason, seconds_taken, saw, in_cluster, person, role in rows:
        name = None if class_id is None else names.get(class_id, str(class_id))
        by_oracle = role is Role.ORACLE
        answers[query_id].append(Given(outcome, name, reason, person, by_oracle, seconds_taken, saw, in_cluster))
    return {query_id: tuple(given) for query_id, given in answers.items()}


def _top(parts: Mapping[str, Any], names: Mapping[int, str]) -> tuple[tuple[str, float], ...]:
    return tuple((names.get(class_id, str(class_id)), chance) for class_id, chance in parts.get("top") or [])
