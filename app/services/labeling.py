"""Labeling: answers are kept, counted once, and taken back.

Taking queries in the first place is ``app.services.claiming``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Select,
    Uuid,
    bindparam,
    exists,
    func,
    or_,
    select,
)
from sqlalchemy.orm import Session

from app.errors import (
    AnsweredAlready,
    AnswerGone,
    BadInput,
    BudgetSpent,
    ClassRetired,
    Conflict,
    LeaseLost,
    LeftProject,
    QuerentError,
)
from app.outbox import EventKind, announce
from app.records import (
    CHECKS,
    Annotation,
    Class,
    Lease,
    Membership,
    Outcome,
    Project,
    Query,
    QuerySource,
    Standing,
    UnusableReason,
    User,
)
from app.services import members, rounds
from app.services.claiming import Ask, asks_of
from app.services.clock import now
from app.services.keeping import keep
from app.services.locks import lock_project, lock_project_and_query, lock_query
from app.services.queue import (
    Found,
    is_reviewed,
    look_up,
    open_elsewhere,
    other_open_query,
    settle,
    settle_by,
    standing,
    stands,
)
from app.services.resolving import Said

TAKES_A_PLACE = (Outcome.LABEL, Outcome.UNSURE)  # one of the answers that a query wants
FREE = (QuerySource.REVIEW, *CHECKS)  # sources whose answers are not paid from the budget


@dataclass(frozen=True)
class Answer:
    """What somebody says to a query; ``client_id`` makes sending it twice harmless.

    Attributes:
        reason: why nobody can label the image, if that is the outcome.
        saw_prediction: the person was shown what the network believes.
        in_cluster: the person was shown the image among others that look alike.
        corrects: the ``client_id`` of the person's own answer that this one takes the place of.
    """

    client_id: UUID
    project_id: int
    query_id: int
    user_id: int
    outcome: Outcome
    class_id: int | None = None
    seconds_taken: float | None = None
    reason: UnusableReason | None = None
    saw_prediction: bool = False
    in_cluster: bool = False
    corrects: UUID | None = None


@dataclass(frozen=True)
class Answered:
    """What became of an answer: kept always, counted unless ``refusal`` says why not or it answers a check."""

    annotation_id: int
    replay: bool = False
    is_check: bool = False
    refusal: QuerentError | None = None

    @property
    def counted(self) -> bool:
        """Whether the answer counts."""
        return self.refusal is None


@dataclass(frozen=True)
class _Facts:
    """What is known when an answer comes, read in one statement: answers wait for each other meanwhile.

    Attributes:
        known_id: the annotation of this very answer, if it was sent before.
        class_name: the name of its class, None if the project has no such class.
        has_answered: an answer of the person to the image stands.
        holds: the person holds the query.
        asked_in: another query about the image that is not closed.
        round_is_open: a round is requested or running.
        is_member: the person may label the project now.
        standing: what was decided about them by name.
    """

    known_id: int | None
    class_name: str | None
    class_retired_at: datetime | None
    has_answered: bool
    holds: bool
    asked_in: int | None
    round_is_open: bool
    is_member: bool
    standing: Standing | None


def answer(session: Session, given: Answer) -> Answered:
    """Keep an answer; the same ``client_id`` twice is one annotation.

    A correction revokes the answer whose place it takes, whoever holds the query by now; one whose answer is gone
    counts like any other answer. An answer whose lease has passed on, whose class was retired meanwhile, whose
    person has left the project, or that the budget no longer covers, is kept as well but not counted, and ``refusal``
    says why.

    Raises:
        BadInput: the class is unknown, or the outcome does not fit a class or a reason.
        NotFound: the project never asked this query, or the person never was a member of it.
        Conflict: the ``client_id`` belongs to another answer.
    """
    project, query = lock_project_and_query(session, given.project_id, given.query_id)
    facts = _facts(session, query, given)
    if facts.known_id is not None:
        return _replayed(session.get_one(Annotation, facts.known_id), given)
    _check(given)
    replaced = None if given.corrects is None else _replaced(session, query, given)
    refusal = _left(facts.is_member) or _retired(facts, given) or _refusal(project, query, given, facts, replaced)
    if replaced is not None and refusal is None:
        _revoke(session, project, query, replaced)
    is_check = query.source in CHECKS
    counts = refusal is None and not is_check
    ends_lease = not isinstance(refusal, ClassRetired)  # then the person is to choose another class for the same image
    found = _found_after(session, query, given, counts=counts, ended=int(ends_lease and facts.holds))
    settle_by(session, query, found)
    if refusal is None and given.outcome is Outcome.LABEL and query.source not in FREE:
        project.labels_used += 1
    annotation = {
        **vars(given),
        "image_id": query.image_id,
        "corrects_id": None if replaced is None else replaced.id,
        "counted": counts,
        "is_check": refusal is None and is_check,
    }
    annotation_id = keep(session, annotation, project, query, found.image, ends_lease=ends_lease)
    if refusal is None and facts.asked_in:
        _tell_other(session, project, lock_query(session, project.id, facts.asked_in), given.outcome, replaced)
    announce(session, project.id, EventKind.LABELS, labels_used=project.labels_used)
    if not facts.round_is_open:
        rounds.request_if_due(session, project)
    return Answered(annotation_id, is_check=annotation["is_check"], refusal=refusal)


def _found_after(session: Session, query: Query, given: Answer, *, counts: bool, ended: int) -> Found:
    """Return what the query's state follows from once this answer is written and ``ended`` leases are gone."""
    found = look_up(session, query)
    said = Said(given.outcome, given.class_id, by_reviewer=query.source is QuerySource.REVIEW)
    answers = [*found.answers, (query.id, said)] if counts else found.answers
    return dataclasses.replace(found, held=found.held - ended, answers=answers)


def _tell_other(
    session: Session, project: Project, other: Query, outcome: Outcome, replaced: Annotation | None
) -> None:
    """Let another open query about the same image know what this answer means to it."""
    if outcome is Outcome.SKIP and replaced is not None and replaced.outcome is Outcome.LABEL:
        # it was asked for what the image lacked while this person's label stood
        other.wanted_answers = min(project.overlap, other.wanted_answers + 1)
        settle(session, other)
    elif outcome is Outcome.UNUSABLE:
        settle(session, other)  # nobody else need be asked either


def answer_all(session: Session, given: Sequence[Answer]) -> list[Answered | QuerentError]:
    """Keep several answers in their order; one that is refused or makes no sense leaves the others as they are."""
    kept: list[Answered | QuerentError] = []
    for each in given:
        try:
            kept.append(answer(session, each))
        except QuerentError as error:  # raised before anything of this answer is written
            kept.append(error)
    return kept


def undo(session: Session, project_id: int, user_id: int, lease_seconds: float, client_id: UUID | None = None) -> Ask:
    """Take back one of the person's answers, the latest unless another is named, and hand them its query again.

    Raises:
        AnswerGone: there is nothing to take back.
        LeaseLost: the query has passed to somebody else since.
    """
    project = lock_project(session, project_id)
    own = select(Annotation).where(Annotation.project_id == project_id, Annotation.user_id == user_id)
    own = own.where(*own_standing()) if client_id is None else own.where(Annotation.client_id == client_id)
    latest = session.scalar(own.order_by(Annotation.id.desc()).limit(1))
    if latest is None:
        raise AnswerGone("undo", "you have no answer to take back here", "label some images first")
    if latest.revoked_at is not None or not (latest.counted or latest.is_check):
        # the reply to the first try may have been lost: the same query again, while the person still holds it
        if session.scalar(select(Lease.id).where(Lease.query_id == latest.query_id, Lease.user_id == user_id)):
            return asks_of(session, [latest.query_id])[0]
        raise AnswerGone("undo", "that answer does not count any more", "go on with the next image")
    query = lock_query(session, project_id, latest.query_id)
    _check_undo(session, project, query, latest)
    _revoke(session, project, query, latest)
    session.add(_lease(session, query, user_id, lease_seconds))
    settle(session, query)
    announce(session, project_id, EventKind.LABELS, labels_used=project.labels_used)
    rounds.request_if_due(session, project)  # when all was answered, nothing else would have the image asked again
    return asks_of(session, [query.id])[0]


def own_standing() -> tuple[ColumnElement[bool], ...]:
    """Return the conditions under which an annotation is one of a person's answers: to them, a check is like any."""
    return Annotation.revoked_at.is_(None), or_(Annotation.counted, Annotation.is_check)


def _check_undo(session: Session, project: Project, query: Query, latest: Annotation) -> None:
    """Raise LeaseLost when somebody else's answer rests on this one by now."""
    if latest.is_check:
        if (told := _told(project, query)) is not None:
            raise told
        return
    if query.source is not QuerySource.REVIEW and is_reviewed(session, query.image_id):
        raise LeaseLost("undo", "a reviewer has decided about the image since", "leave it to them and go on")
    if open_elsewhere(session, query) or (latest.outcome is Outcome.SKIP and not query.open_answers):
        raise LeaseLost("undo", "the image has passed to somebody else since", "leave it to them and go on")


def _replayed(known: Annotation, given: Answer) -> Answered:
    if (known.user_id, known.query_id) != (given.user_id, given.query_id):
        raise Conflict("client_id", "another answer has it", "make a new one for every answer")
    late = LeaseLost("answer", "it came after its image had passed on; it was kept, not counted", "go on with the next")
    refusal = None if known.counted or known.is_check else late
    return Answered(known.id, replay=True, is_check=known.is_check, refusal=refusal)


def _check(given: Answer) -> None:
    if given.seconds_taken is not None and not given.seconds_taken >= 0:
        raise BadInput("seconds_taken", f"{given.seconds_taken} runs backwards", "send zero or more")
    if given.reason is not None and given.outcome is not Outcome.UNUSABLE:
        raise BadInput("reason", f"{given.outcome.value!r} has none", "leave it out")
    if given.class_id is not None and given.outcome is not Outcome.LABEL:
        raise BadInput("class_id", f"{given.outcome.value!r} names no class", "leave it out")


def _left(is_member: bool) -> LeftProject | None:
    if is_member:
        return None
    reason = "you are no longer a member of its project; it was kept, not counted"
    return LeftProject("answer", reason, "ask an admin to add you again")


def _facts(session: Session, query: Query, given: Answer) -> _Facts:
    values = {
        "client": given.client_id,
        "project": given.project_id,
        "query": query.id,
        "image": query.image_id,
        "person": given.user_id,
        "class": given.class_id,
    }
    facts = _Facts(*session.execute(_facts_statement(), values).one())
    members.Access(None, facts.is_member, facts.standing).require("project", given.project_id, was_enough=True)
    return facts


@cache
def _facts_statement() -> Select[Any]:
    def given(name: str) -> BindParameter[int]:
        return bindparam(name, type_=BigInteger)

    known = select(Annotation.id).where(Annotation.client_id == bindparam("client", type_=Uuid))
    of_project = Class.id == given("class"), Class.project_id == given("project")
    before = Annotation.image_id == given("image"), Annotation.user_id == given("person"), *standing()
    return (
        select(
            known.scalar_subquery(),
            select(Class.name).where(*of_project).scalar_subquery(),
            select(Class.retired_at).where(*of_project).scalar_subquery(),
            exists().where(*before),
            exists().where(Lease.query_id == given("query"), Lease.user_id == given("person")),
            other_open_query(given("image"), given("query")).scalar_subquery(),
            rounds.open_round(given("project")).exists(),
            func.coalesce(members.is_in(), False),
            Membership.standing,
        )
        .select_from(Project)
        .join(User, User.id == given("person"), isouter=True)
        .join(Membership, members.decided(), isouter=True)
        .where(Project.id == given("project"))
    )


def _retired(facts: _Facts, given: Answer) -> ClassRetired | None:
    """Say that the class was retired; raise BadInput for one that the project never had."""
    if given.outcome is not Outcome.LABEL:
        return None
    if facts.class_name is None:
        reason = "this project has no such class"
        raise BadInput(f"class {given.class_id}", reason, "reload the page and choose another")
    if facts.class_retired_at is None:
        return None
    reason = "it is not given any more; the answer was kept, not counted"
    return ClassRetired(f"class {facts.class_name!r}", reason, "choose another for the same image")


def _replaced(session: Session, query: Query, given: Answer) -> Annotation | None:
    """Return the person's answer that stands: the one that is corrected, or what it was corrected to elsewhere."""
    own = select(Annotation).where(Annotation.query_id == query.id, Annotation.user_id == given.user_id, *stands(query))
    return session.scalar(own)


def _revoke(session: Session, project: Project, query: Query, known: Annotation) -> None:
    known.revoked_at = now(session)
    if known.outcome is Outcome.LABEL and query.source not in FREE:
        project.labels_used -= 1
    session.flush()


def _refusal(
    project: Project, query: Query, given: Answer, facts: _Facts, replaced: Annotation | None
) -> QuerentError | None:
    """Say why an answer cannot count; otherwise make sure that the query has a place for it."""
    if replaced is None:
        if query.source not in FREE and facts.has_answered:
            reason = "you have answered this image already; it was kept, not counted"
            return AnsweredAlready("answer", reason, "go back to that answer to change it")
        if query.closed_at is not None or (not facts.holds and not query.open_answers):
            reason = "its image has passed to somebody else; it was kept, not counted"
            return LeaseLost("answer", reason, "go on with the next image")
    elif query.source in CHECKS:
        return _told(project, query)
    elif replaced.outcome is Outcome.SKIP and given.outcome in TAKES_A_PLACE and not query.open_answers:
        reason = "somebody else has taken up what you skipped; the correction was kept, not counted"
        return LeaseLost("answer", reason, "leave it to them and go on")
    given_before = int(replaced is not None and replaced.outcome is Outcome.LABEL)
    if (
        given.outcome is Outcome.LABEL
        and query.source not in FREE
        and project.labels_used - given_before >= project.budget
    ):
        return BudgetSpent(
            "budget",
            f"all {project.budget} labels are given; the answer was kept, not counted",
            "ask an admin for more",
        )
    return None


def _told(project: Project, query: Query) -> AnswerGone | None:
    """Say that an answer cannot be changed, because the person was told the right one."""
    if query.source is not QuerySource.GOLD or not project.gold_feedback:
        return None
    return AnswerGone("this answer", "you have been told the right one", "go on with the next image")


def _lease(session: Session, query: Query, user_id: int, lease_seconds: float) -> Lease:
    expires_at = now(session, timedelta(seconds=lease_seconds))
    return Lease(
        project_id=query.project_id,
        query_id=query.id,
        user_id=user_id,
        expires_at=expires_at,
        is_check=query.source in CHECKS,
    )
