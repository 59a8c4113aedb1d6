"""Rounds: when one is due, and what it leaves behind when it ends.

A round is a row before it is a task: at most one is open to a project, so one answered batch is one round, however
often its task is delivered. Whoever changes something that may make a round due holds the project's row and calls
``request_if_due`` in the same transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, BindParameter, Select, bindparam, exists, func, select
from sqlalchemy.orm import Session

from app.errors import Conflict
from app.outbox import EventKind, TaskName, announce, send_task
from app.recipes import PSEUDO_LABELERS
from app.records import (
    CHECKS,
    Annotation,
    Image,
    Lease,
    Model,
    OracleKind,
    Outcome,
    Project,
    ProjectState,
    Query,
    QuerySource,
    Round,
    RoundReason,
    RoundState,
)
from app.services import ledger
from app.services.batches import answered_since, awaits_answers
from app.services.clock import now
from app.services.ledger import Change, Proposal
from app.services.locks import lock_project
from app.services.queue import awaits_review, standing, supersede
from app.services.snapshots import SnapshotRows, has_candidates, latest_annotation_id

OPEN = (RoundState.REQUESTED, RoundState.RUNNING)
MOST_ATTEMPTS = 3
MOST_ROUNDS_ALONE = 100  # in a row, by a pseudo-labeler that goes on when the budget is spent
MEASURED = ("accuracy", "accuracy_low", "accuracy_high")  # of the metrics, what open pages are told at once


@dataclass(frozen=True)
class RankedImage:
    """One image of a ranking, best first, with what is kept about why it was asked.

    ``predicted_class_id`` and its ``confidence`` are given where people may be shown what the network believes,
    ``cluster`` where they may be shown the image among others that look alike.
    """

    image_id: int
    source: QuerySource
    score: float | None = None
    propensity: float | None = None
    parts: dict[str, Any] = field(default_factory=dict)
    predicted_class_id: int | None = None
    confidence: float | None = None
    cluster: int | None = None


@dataclass(frozen=True)
class FittedModel:
    """The network that a round fitted; ``classes`` are class ids in the order of its outputs."""

    weights_hash: str
    network: dict[str, Any]
    classes: list[int]
    parent_id: int | None


@dataclass(frozen=True)
class RoundResult:
    """Everything that a finished round writes, in one transaction.

    ``proposal`` is what shall stand in the ledger; ``pseudo_report`` says in plain JSON how that was decided.
    """

    ranking: Sequence[RankedImage]
    batch_size: int
    timings: dict[str, float]
    metrics: dict[str, Any] | None = None
    model: FittedModel | None = None
    scores_hash: str | None = None
    proposal: Proposal = field(default_factory=Proposal)
    pseudo_report: Mapping[str, Any] = field(default_factory=dict)


def open_round(project_id: BindParameter[int]) -> Select[int]:
    """Return the round that is requested or running."""
    return select(Round.id).where(Round.project_id == project_id, Round.state.in_(OPEN))


def is_open(session: Session, project_id: int) -> bool:
    """Say whether a round is requested or running."""
    return bool(session.scalar(_open_statement(), {"project": project_id}))


def request_if_due(session: Session, project: Project, reason: RoundReason | None = None) -> Round | None:
    """Request a round if the project runs, none is open, and there is something to learn or to ask.

    That is so when there was no round yet, or when every query of the latest batch is answered (or skipped) and
    somebody answered anything since its snapshot. Whoever made room for more queries, by images or by budget, says so
    with ``reason``; then no new answer is needed. Nor is it when the budget is spent and the network goes on by itself,
    or when the latest round could not ask what people held, since that would have passed the budget, and it was given
    back.
    """
    session.flush()
    if project.state is not ProjectState.RUNNING or not project.image_count or is_open(session, project.id):
        return None
    latest = latest_round(session, project.id)
    if latest is None:
        return _request(session, project, RoundReason.FIRST_QUERIES)
    if latest.state is RoundState.FAILED or awaits_answers(session, latest):
        return None
    if reason is None and not answered_since(session, latest):
        if _goes_on(session, project, latest):
            return _request(session, project, RoundReason.AUTOMATIC_LABELS)
        is_left_out = _room(session, project) > 0 and has_candidates(session, project.id)
        return _request(session, project, RoundReason.MORE_TO_ASK) if is_left_out else None
    asked = session.scalar(select(Query.id).where(Query.round_id == latest.id, ~Query.reserve).limit(1))
    return _request(session, project, reason or (RoundReason.BATCH_ANSWERED if asked else RoundReason.LABELS_CHANGED))


def request_by_admin(session: Session, project_id: int) -> Round:
    """Request a round now, whatever is answered.

    Raises:
        Conflict: the project is paused or has no images, or a round is open already.
    """
    project = lock_project(session, project_id)
    if project.state is not ProjectState.RUNNING or not project.image_count:
        raise Conflict(f"project {project.name!r}", "it is paused or has no images", "start it first")
    if is_open(session, project_id):
        raise Conflict(f"project {project.name!r}", "a round is under way already", "wait for it to end")
    return _request(session, project, RoundReason.ASKED_BY_ADMIN)


def latest_round(session: Session, project_id: int) -> Round | None:
    """Return the project's latest round, whatever its state."""
    return session.scalar(_latest_statement(), {"project": project_id})


def latest_model(session: Session, project_id: int) -> Model | None:
    """Return the project's latest fitted network."""
    return session.scalar(select(Model).where(Model.project_id == project_id).order_by(Model.id.desc()).limit(1))


def ended_after(session: Session, project_id: int, number: int) -> list[Round]:
    """Return the rounds after ``number`` that are done or failed, in order."""
    ended = select(Round).where(Round.project_id == project_id, Round.number > number, Round.state.not_in(OPEN))
    return list(session.scalars(ended.order_by(Round.number)))


def is_settled(session: Session, project_id: int) -> bool:
    """Say whether the loop rests: no round is open, and nobody is asked anything that would make one due."""
    latest = latest_round(session, project_id)
    if latest is None or latest.state in OPEN:
        return False
    return not awaits_answers(session, latest) and not answered_since(session, latest)


def begin(session: Session, project: Project) -> Round | None:
    """Start the locked project's open round, or start it again after it was cut off.

    Returns None when no round is open, or when this one was cut off too often, which makes it failed.
    """
    found = session.scalar(select(Round).where(Round.project_id == project.id, Round.state.in_(OPEN)).with_for_update())
    if found is None:
        return None
    if found.attempt >= MOST_ATTEMPTS:
        _end(session, found, RoundState.FAILED, f"the worker was cut off {found.attempt} times while it ran")
        return None
    found.last_annotation_id = latest_annotation_id(session, project.id)
    found.started_at = now(session)
    found.state = RoundState.RUNNING
    found.attempt += 1
    found.recipe = project.recipe
    found.progress = None
    session.flush()
    announce(session, project.id, EventKind.ROUND, number=found.number, state=found.state.value)
    return found


def keep_snapshot(session: Session, round_id: int, attempt: int, rows: SnapshotRows) -> bool:
    """Write which snapshot a running round learns from; false if it is no longer this attempt's."""
    found = _held(session, round_id, attempt)
    if found is None:
        return False
    found.last_annotation_id, found.labels = rows.last_annotation_id, len(rows.labelled)
    session.flush()
    return True


def report(session: Session, round_id: int, attempt: int, progress: dict[str, Any]) -> None:
    """Keep and publish how far a running round is; silent if it is no longer this attempt's."""
    found = _held(session, round_id, attempt)
    if found is not None:
        found.progress = progress
        announce(session, found.project_id, EventKind.PROGRESS, number=found.number, **progress)


def finish(session: Session, round_id: int, attempt: int, result: RoundResult) -> bool:
    """Write a round's result: metrics, model, ledger and the next queries, which replace those that nobody holds.

    Returns False, writing nothing, if the round is no longer this attempt's or was deleted with its project.
    """
    project = _lock_project_of(session, round_id)
    found = _held(session, round_id, attempt)
    if project is None or found is None:
        return False
    model_id = _keep_model(session, found, result)
    found.timings, found.scores_hash = dict(result.timings), result.scores_hash
    supersede(session, project.id)
    _ask(session, project, found, result)
    change = ledger.reconcile(session, project, found.number, model_id, result.proposal)
    found.metrics = _with_ledger(result, change)
    _end(session, found, RoundState.DONE)
    request_if_due(session, project)
    if project.oracle is OracleKind.SIMULATED:
        send_task(session, TaskName.ANSWER_BATCH, project.id)
    return True


def fail(session: Session, round_id: int, attempt: int, error: str) -> bool:
    """End a round that cannot be run, with the reason that the project's page shows."""
    _lock_project_of(session, round_id)
    found = _held(session, round_id, attempt)
    if found is not None:
        _end(session, found, RoundState.FAILED, error)
    return found is not None


def _request(session: Session, project: Project, reason: RoundReason) -> Round:
    latest = latest_round(session, project.id)
    requested = Round(project_id=project.id, number=0 if latest is None else latest.number + 1, reason=reason)
    session.add(requested)
    session.flush()
    send_task(session, TaskName.RUN_ROUND, project.id)
    announce(session, project.id, EventKind.ROUND, number=requested.number, state=requested.state.value)
    return requested


@cache
def _open_statement() -> Select[int]:
    return open_round(bindparam("project", type_=BigInteger))


@cache
def _latest_statement() -> Select[Round]:
    of_project = Round.project_id == bindparam("project", type_=BigInteger)
    return select(Round).where(of_project).order_by(Round.number.desc()).limit(1)


def _goes_on(session: Session, project: Project, latest: Round) -> bool:
    """Say whether the network learns from its own labels once people have given all of theirs.

    That ends when a round adds nothing, or after so many in a row: a rule of ten labels a round would otherwise keep
    the worker busy with a large pool for days. An admin may let it go on.
    """
    rule = project.recipe.get("pseudo_labeler", {}).get("name")
    added = ((latest.metrics or {}).get("pseudo") or {}).get("added", 0)
    is_made_for_it = any(known.name == rule and known.goes_on for known in PSEUDO_LABELERS.choices)
    if not (added and project.is_spent and is_made_for_it):
        return False
    other = select(func.max(Round.number)).where(
        Round.project_id == project.id, Round.reason != RoundReason.AUTOMATIC_LABELS
    )
    return latest.number - (session.scalar(other) or 0) < MOST_ROUNDS_ALONE


def _lock_project_of(session: Session, round_id: int) -> Project | None:
    """Lock the project of a round; None if both were deleted while the round ran."""
    project_id = session.scalar(select(Round.project_id).where(Round.id == round_id))
    return None if project_id is None else lock_project(session, project_id)


def _held(session: Session, round_id: int, attempt: int) -> Round | None:
    return session.scalar(
        select(Round)
        .where(Round.id == round_id, Round.attempt == attempt, Round.state == RoundState.RUNNING)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def _end(session: Session, found: Round, state: RoundState, error: str | None = None) -> None:
    finished_at = now(session)  # read first: asking the database writes what is pending, and that must be whole
    found.state, found.error, found.progress, found.finished_at = state, error, None, finished_at
    session.flush()
    metrics = found.metrics or {}
    measured = {name: metrics[f"test_{name}"] for name in MEASURED if f"test_{name}" in metrics}
    announce(session, found.project_id, EventKind.ROUND, number=found.number, state=state.value, **measured)


def _keep_model(session: Session, found: Round, result: RoundResult) -> int | None:
    if result.model is None:
        return None
    model = Model(
        project_id=found.project_id,
        round_id=found.id,
        parent_id=result.model.parent_id,
        weights_hash=result.model.weights_hash,
        network=result.model.network,
        classes=result.model.classes,
        metrics=result.metrics,
    )
    session.add(model)
    session.flush()
    return model.id


def _with_ledger(result: RoundResult, change: Change) -> dict[str, Any] | None:
    """Add what became of the ledger to a round's metrics, if the round had to do with it."""
    is_labelling = result.proposal.rule is not None and result.model is not None
    if not is_labelling and not change.withdrawn:
        return result.metrics
    told = {"rule": result.proposal.rule, "report": dict(result.pseudo_report), **asdict(change)}
    return {**(result.metrics or {}), "pseudo": told}


def _ask(session: Session, project: Project, found: Round, result: RoundResult) -> None:
    """Insert the batch and, behind it, as many reserve queries, as far as the budget goes."""
    asked = [ranked for ranked in result.ranking if ranked.source is QuerySource.TEST]
    ranking = _still_open(session, [ranked for ranked in result.ranking if ranked.source is not QuerySource.TEST])
    room = _room(session, project)
    asked = asked[:room]
    batch = min(result.batch_size, room - len(asked))
    reserve = min(result.batch_size, room - len(asked) - batch)
    chosen = ranking[:batch] + asked + ranking[batch : batch + reserve]
    wanted = _answers_wanted(session, project, [ranked.image_id for ranked in chosen])
    for rank, ranked in enumerate(chosen, start=1):
        session.add(
            Query(
                project_id=project.id,
                round_id=found.id,
                image_id=ranked.image_id,
                rank=rank,
                source=ranked.source,
                reserve=rank > min(batch, len(ranking)) + len(asked),
                score=ranked.score,
                parts=ranked.parts,
                propensity=ranked.propensity,
                predicted_class_id=ranked.predicted_class_id,
                confidence=ranked.confidence,
                cluster=ranked.cluster,
                wanted_answers=wanted[ranked.image_id],
                open_answers=wanted[ranked.image_id],
            )
        )
    session.flush()


def _room(session: Session, project: Project) -> int:
    """Return how many images can be asked about, beside what people hold, before their answers pass the budget."""
    held = session.scalar(select(func.count()).where(Lease.project_id == project.id, ~Lease.is_check)) or 0
    return int(max(0, project.budget - project.labels_used - held) // project.overlap)


def _answers_wanted(session: Session, project: Project, image_ids: Sequence[int]) -> dict[int, int]:
    """Return how many answers each image lacks: some got one from a reserve that the new ranking has superseded.

    To want as many as of the others would ask more people than the overlap says, or wait for people there are not.
    """
    given = (
        select(Annotation.image_id, func.count())
        .where(Annotation.image_id.in_(image_ids), Annotation.outcome == Outcome.LABEL, *standing())
        .group_by(Annotation.image_id)
    )
    known = dict(session.execute(given).all()) if project.overlap > 1 else {}
    return {image_id: max(1, project.overlap - known.get(image_id, 0)) for image_id in image_ids}


def _still_open(session: Session, ranking: Sequence[RankedImage]) -> list[RankedImage]:
    """Drop images that were answered, or are held by somebody, since the snapshot was read."""
    asked = exists().where(Query.image_id == Image.id, Query.closed_at.is_(None), Query.source.not_in(CHECKS))
    free = select(Image.id).where(
        Image.id.in_([ranked.image_id for ranked in ranking]),
        ~Image.has_human_label,
        Image.gold_class_id.is_(None),
        Image.unusable_at.is_(None),
        ~awaits_review(),
        ~asked,
    )
    open_ids = set(session.scalars(free))
    return [ranked for ranked in ranking if ranked.image_id in open_ids]
