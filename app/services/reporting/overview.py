"""A project's page: how well its network does, what the worker is doing, and what people are asked now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from app.records import (
    Class,
    Image,
    OracleKind,
    Project,
    ProjectState,
    Query,
    Round,
    RoundReason,
    RoundState,
    Split,
)
from app.services import projects
from app.services.reporting.answered import is_answered
from app.services.reporting.imports import ImportNow, import_now
from app.services.reporting.ledger_summary import LedgerSummary, ledger_summary
from app.services.reporting.listing import Thumb
from app.services.reporting.wording import RecipeLine, recipe_lines

CURVE_POINTS = 400
CLASSES_SHOWN = 200
BATCH_SHOWN = 36


@dataclass(frozen=True)
class CurvePoint:
    """What one finished round reached on the test images; the bounds are a 95% Wilson interval."""

    round_number: int
    labels: int
    accuracy: float
    low: float
    high: float
    nll: float | None
    seconds_fit: float | None


@dataclass(frozen=True)
class RoundNow:
    """The latest round: what the worker does, or why it could not."""

    number: int
    state: RoundState
    reason: RoundReason
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None
    stage: str | None
    done: int | None
    total: int | None
    loss: float | None
    validation_accuracy: float | None

    @property
    def is_open(self) -> bool:
        """Whether the worker has it, or is to take it."""
        return self.state in (RoundState.REQUESTED, RoundState.RUNNING)


@dataclass(frozen=True)
class ClassCount:
    """A class and how many images are labelled as it."""

    name: str
    key: str | None
    labels: int


@dataclass(frozen=True)
class AskedThumb:
    """An image of the batch that people are asked about now."""

    thumb: Thumb
    is_answered: bool


@dataclass(frozen=True)
class Batch:
    """The queries of the latest finished round, without its reserve."""

    round_number: int
    size: int
    answered: int
    shown: tuple[AskedThumb, ...]


@dataclass(frozen=True)
class Overview:
    """Everything on a project's page."""

    id: int
    name: str
    description: str
    state: ProjectState
    oracle: OracleKind
    oracle_noise: float
    budget: int
    labels_used: int
    overlap: int
    image_count: int
    pool_size: int
    test_size: int
    shows_reasons: bool
    classes: tuple[ClassCount, ...]
    curve: tuple[CurvePoint, ...]
    round_now: RoundNow | None
    import_now: ImportNow | None
    batch: Batch | None
    recipe: tuple[RecipeLine, ...]
    ledger: LedgerSummary

    @property
    def labelled(self) -> int:
        """Images that have a label."""
        return sum(known.labels for known in self.classes)

    @property
    def latest(self) -> CurvePoint | None:
        """The newest point of the curve."""
        return self.curve[-1] if self.curve else None

    @property
    def most_labels_of_a_class(self) -> int:
        """Scale of the bars per class; at least one."""
        return max([1, *(known.labels for known in self.classes)])


def project_overview(session: Session, project_id: int) -> Overview:
    """Return a project's page; raise NotFound if there is no such project."""
    project = projects.get(session, project_id)
    held_out = _held_out(session, project_id)
    return Overview(
        id=project.id,
        name=project.name,
        description=project.description,
        state=project.state,
        oracle=project.oracle,
        oracle_noise=project.oracle_noise,
        budget=project.budget,
        labels_used=project.labels_used,
        overlap=project.overlap,
        image_count=project.image_count,
        shows_reasons=project.shows_reasons,
        pool_size=project.image_count - sum(held_out.values()),
        test_size=held_out.get(Split.TEST, 0),
        classes=_class_counts(session, project),
        curve=_curve(session, project_id),
        round_now=_round_now(session, project_id),
        import_now=import_now(session, project_id),
        batch=_batch(session, project_id),
        recipe=recipe_lines(project.recipe),
        ledger=ledger_summary(session, project),
    )


def _held_out(session: Session, project_id: int) -> dict[Split, int]:
    counts = session.execute(
        select(Image.split, func.count())
        .where(Image.project_id == project_id, Image.split != Split.POOL)
        .group_by(Image.split)
    )
    return dict(counts.all())


def _class_counts(session: Session, project: Project) -> tuple[ClassCount, ...]:
    labelled = and_(
        Image.project_id == project.id, Image.label_class_id == Class.id, Image.has_human_label
    )  # the flag makes the index of labelled images fit
    rows = session.execute(
        select(Class.name, Class.key, func.count(Image.id))
        .join(Image, labelled, isouter=True)
        .where(Class.project_id == project.id, Class.retired_at.is_(None))
        .group_by(Class.id)
        .order_by(Class.position)
        .limit(CLASSES_SHOWN)
    )
    return tuple(ClassCount(name, key, count) for name, key, count in rows)


def _curve(session: Session, project_id: int) -> tuple[CurvePoint, ...]:
    accuracy = Round.metrics["test_accuracy"].as_float()
    rows = session.execute(
        select(
            Round.number,
            Round.labels,
            accuracy,
            Round.metrics["test_accuracy_low"].as_float(),
            Round.metrics["test_accuracy_high"].as_float(),
            Round.metrics["test_nll"].as_float(),
            Round.timings["seconds_fit"].as_float(),
        )
        .where(Round.project_id == project_id, Round.state == RoundState.DONE, accuracy.is_not(None))
        .order_by(Round.number.desc())
        .limit(CURVE_POINTS)
    ).all()
    return tuple(
        CurvePoint(number, labels or 0, reached, low, high, nll, seconds)
        for number, labels, reached, low, high, nll, seconds in reversed(rows)
    )


def _round_now(session: Session, project_id: int) -> RoundNow | None:
    latest = session.execute(
        select(
            Round.number,
            Round.state,
            Round.reason,
            Round.requested_at,
            Round.started_at,
            Round.finished_at,
            Round.error,
            Round.progress,
        )
        .where(Round.project_id == project_id)
        .order_by(Round.number.desc())
        .limit(1)
    ).first()
    if latest is None:
        return None
    progress: dict[str, Any] = latest.progress or {}
    return RoundNow(
        number=latest.number,
        state=latest.state,
        reason=latest.reason,
        requested_at=latest.requested_at,
        started_at=latest.started_at,
        finished_at=latest.finished_at,
        error=latest.error,
        stage=progress.get("stage"),
        done=progress.get("done"),
        total=progress.get("total"),
        loss=progress.get("loss"),
        validation_accuracy=progress.get("validation_accuracy"),
    )


def _batch(session: Session, project_id: int) -> Batch | None:
    latest = session.execute(
        select(Round.id, Round.number)
        .where(Round.project_id == project_id, Round.state == RoundState.DONE)
        .order_by(Round.number.desc())
        .limit(1)
    ).first()
    if latest is None:
        return None
    of_batch = (Query.round_id == latest.id, ~Query.reserve)
    size, answered = session.execute(
        select(func.count(), func.count().filter(is_answered())).select_from(Query).where(*of_batch)
    ).one()
    rows = session.execute(
        select(Image.id, Image.width, Image.height, is_answered())
        .select_from(Query)
        .join(Image, Image.id == Query.image_id)
        .where(*of_batch)
        .order_by(Query.rank)
        .limit(BATCH_SHOWN)
    )
    shown = tuple(AskedThumb(Thumb(image_id, w, h), answered) for image_id, w, h, answered in rows)
    return Batch(latest.number, size, answered, shown)
