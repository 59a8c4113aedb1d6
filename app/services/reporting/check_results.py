"""How people do on checks: gold images, and whether they say the same again; and what a person is told right away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from app.records import Annotation, Class, Image, Outcome, Project, Query, QuerySource, User
from app.services.agreement import cohen_kappa
from app.services.reporting.agreement import Agreement

MIXED_UP_SHOWN = 12


@dataclass(frozen=True)
class PersonChecks:
    """A person on checks.

    Attributes:
        gold: answers to gold images that gave the known class, of those that gave one.
        without_class: answers to gold images that gave none: skipped, unsure or unusable.
        repeats: second answers that were the first one's class, of those that gave one.
        kappa: Cohen's kappa of the first against the second answers; None if it is not defined.
    """

    name: str
    gold: Agreement
    without_class: int
    repeats: Agreement
    kappa: float | None


@dataclass(frozen=True)
class Mistake:
    """A class that is known, and what people said instead."""

    known: str
    said: str
    times: int


@dataclass(frozen=True)
class CheckResults:
    """How people do on checks, and which known classes they take for which."""

    people: tuple[PersonChecks, ...]
    mistakes: tuple[Mistake, ...]


@dataclass(frozen=True)
class Feedback:
    """What a person is told after answering a gold image: the class that is known, and whether they said so."""

    is_right: bool
    known: str


@dataclass(frozen=True)
class _Checked:
    """An answer to a check, and the class that it is compared with."""

    user_id: int
    class_id: int | None
    expected: int


def check_results(session: Session, project_id: int) -> CheckResults:
    """Return how people do on a project's checks: by the answers that stand, to images that are still gold."""
    gold, repeats = _gold(session, project_id), _repeats(session, project_id)
    user_ids = {each.user_id for each in [*gold, *repeats]}
    people = session.execute(select(User.id, User.name).where(User.id.in_(user_ids)).order_by(User.name)).all()
    classes = dict(session.execute(select(Class.id, Class.name).where(Class.project_id == project_id)).all())
    wrong = Counter((each.expected, each.class_id) for each in gold if each.class_id not in {None, each.expected})
    mistakes = [Mistake(classes[known], classes[said or 0], times) for (known, said), times in wrong.items()]
    mistakes.sort(key=lambda each: (-each.times, each.known, each.said))
    return CheckResults(
        people=tuple(_person(user_id, name, gold, repeats) for user_id, name in people),
        mistakes=tuple(mistakes[:MIXED_UP_SHOWN]),
    )


def feedback(session: Session, project_id: int, annotation_id: int) -> Feedback | None:
    """Return what a person is told about their answer; None where it checked nothing, or the project tells nothing."""
    found = session.execute(
        select(Annotation.class_id, Image.gold_class_id, Class.name)
        .join(Query, Query.id == Annotation.query_id)
        .join(Image, Image.id == Annotation.image_id)
        .join(Class, Class.id == Image.gold_class_id)
        .join(Project, Project.id == Annotation.project_id)
        .where(Annotation.id == annotation_id, Annotation.is_check, Query.source == QuerySource.GOLD)
        .where(Project.id == project_id, Project.gold_feedback)
    ).first()
    return None if found is None else Feedback(found[0] == found[1], found[2])


def _person(user_id: int, name: str, gold: Sequence[_Checked], repeats: Sequence[_Checked]) -> PersonChecks:
    mine = [each for each in gold if each.user_id == user_id]
    again = [each for each in repeats if each.user_id == user_id and each.class_id is not None]
    table = Counter((each.expected, each.class_id or 0) for each in again)
    return PersonChecks(
        name=name,
        gold=_agreement(mine),
        without_class=sum(each.class_id is None for each in mine),
        repeats=_agreement(again),
        kappa=cohen_kappa(table),
    )


def _agreement(checked: Sequence[_Checked]) -> Agreement:
    given = [each for each in checked if each.class_id is not None]
    return Agreement(sum(each.class_id == each.expected for each in given), len(given))


def _gold(session: Session, project_id: int) -> list[_Checked]:
    rows = session.execute(
        select(Annotation.user_id, Annotation.class_id, Image.gold_class_id)
        .join(Query, Query.id == Annotation.query_id)
        .join(Image, Image.id == Annotation.image_id)
        .where(Annotation.project_id == project_id, Annotation.is_check, Annotation.revoked_at.is_(None))
        .where(Query.source == QuerySource.GOLD, Image.gold_class_id.is_not(None))
    )
    return [_Checked(user_id, class_id, expected or 0) for user_id, class_id, expected in rows]


def _repeats(session: Session, project_id: int) -> list[_Checked]:
    first, of_first = aliased(Annotation), aliased(Query)
    rows = session.execute(
        select(Annotation.user_id, Annotation.class_id, first.class_id)
        .join(Query, Query.id == Annotation.query_id)
        .join(first, (first.image_id == Annotation.image_id) & (first.user_id == Annotation.user_id))
        .join(of_first, of_first.id == first.query_id)
        .where(Annotation.project_id == project_id, Annotation.is_check, Annotation.revoked_at.is_(None))
        .where(Query.source == QuerySource.REPEAT, first.outcome == Outcome.LABEL)
        .where(first.revoked_at.is_(None), first.counted, of_first.source != QuerySource.REVIEW)
    )
    return [_Checked(user_id, class_id, expected or 0) for user_id, class_id, expected in rows]
