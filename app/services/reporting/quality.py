"""How well people agree in a project: all together, by class, by person, and what they mix up.

Answers that were not given blind are left out: those of reviewers and auditors, who saw what others or a model said.
Checks are measured apart (``app.services.reporting.check_results``).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.records import Annotation, Class, Outcome, Query, QuerySource, User
from app.services.agreement import (
    Said,
    Table,
    cohen_kappa,
    coincidences,
    fleiss_kappa,
    krippendorff_alpha,
    krippendorff_alpha_of_class,
    pair_tables,
    tables_against_others,
)
from app.services.queue import standing

MOST_IMAGES = 50_000  # with several answers, the latest; more would keep the page waiting
PAIRS_SHOWN = 20
MIXED_UP_SHOWN = 12


@dataclass(frozen=True)
class FleissKappa:
    """Fleiss' kappa over the images that have ``answers`` each; None where it is not defined."""

    kappa: float | None
    answers: int
    images: int


@dataclass(frozen=True)
class ClassAgreement:
    """A class against all others: alpha, and the answers and images that gave it."""

    name: str
    alpha: float | None
    answers: int
    images: int


@dataclass(frozen=True)
class PersonAgreement:
    """A person against the others: the mean share of them who said the same, and kappa."""

    user_id: int
    name: str
    images: int
    share: float
    kappa: float | None


@dataclass(frozen=True)
class PairAgreement:
    """Two people over the images that both answered."""

    one: str
    other: str
    images: int
    share: float
    kappa: float | None


@dataclass(frozen=True)
class MixedUp:
    """Two classes that people gave to the same images."""

    one: str
    other: str
    images: int
    share: float  # of the images that somebody gave either class


@dataclass(frozen=True)
class AgreementReport:
    """Agreement in a project, over ``images`` that several people answered; ``is_whole`` unless there are more."""

    images: int
    is_whole: bool
    alpha: float | None
    fleiss: FleissKappa | None
    classes: tuple[ClassAgreement, ...]
    people: tuple[PersonAgreement, ...]
    pairs: tuple[PairAgreement, ...]
    mixed_up: tuple[MixedUp, ...]


def agreement_report(session: Session, project_id: int) -> AgreementReport:
    """Return how well people agree in a project."""
    images = blind_answers(session, project_id, MOST_IMAGES + 1)
    is_whole = len(images) <= MOST_IMAGES
    images = images[:MOST_IMAGES]
    class_names = _class_names(session, project_id)
    people = _names(session, images)
    found = coincidences(images)
    given = found.marginals()
    in_images = Counter(known for said in images for known in set(said.values()))
    return AgreementReport(
        images=len(images),
        is_whole=is_whole,
        alpha=krippendorff_alpha(found),
        fleiss=_fleiss(images),
        classes=tuple(
            ClassAgreement(name, krippendorff_alpha_of_class(found, known), given[known], in_images[known])
            for known, name in class_names.items()
            if given[known]
        ),
        people=_people(images, people),
        pairs=_pairs(images, people),
        mixed_up=_mixed_up(images, in_images, class_names),
    )


def blind_answers(session: Session, project_id: int, most: int) -> list[Said]:
    """Return what people said of the images that several of them gave a class, those asked about last first."""
    blind = (
        select(Annotation.image_id, Annotation.user_id, Annotation.class_id)
        .join(Query, Query.id == Annotation.query_id)
        .where(Annotation.project_id == project_id, Annotation.outcome == Outcome.LABEL, *standing())
        .where(Query.source.not_in((QuerySource.AUDIT, QuerySource.REVIEW)))
        .cte("blind")
    )
    several = (
        select(blind.c.image_id)
        .group_by(blind.c.image_id)
        .having(func.count(blind.c.user_id.distinct()) > 1)
        .order_by(blind.c.image_id.desc())
        .limit(most)
    )
    said: dict[int, dict[int, int]] = defaultdict(dict)
    wanted = select(blind).where(blind.c.image_id.in_(several)).order_by(blind.c.image_id.desc(), blind.c.user_id)
    for image_id, user_id, class_id in session.execute(wanted):
        said[image_id][user_id] = class_id
    return list(said.values())


def _fleiss(images: Sequence[Said]) -> FleissKappa | None:
    """Return the kappa of the images with the commonest number of answers, the larger number among equals."""
    sizes = Counter(len(said) for said in images)
    if not sizes:
        return None
    answers = max(sizes, key=lambda size: (sizes[size], size))
    chosen = [Counter(said.values()) for said in images if len(said) == answers]
    classes = sorted({known for counts in chosen for known in counts})
    kappa = fleiss_kappa([[counts[known] for known in classes] for counts in chosen])
    return FleissKappa(kappa, answers, len(chosen))


def _people(images: Sequence[Said], names: Mapping[int, str]) -> tuple[PersonAgreement, ...]:
    tables = tables_against_others(images)
    shared = Counter(user_id for said in images for user_id in said)
    rows = [
        PersonAgreement(user_id, names[user_id], shared[user_id], _share(table), cohen_kappa(table))
        for user_id, table in tables.items()
    ]
    return tuple(sorted(rows, key=lambda row: row.name))


def _pairs(images: Sequence[Said], names: Mapping[int, str]) -> tuple[PairAgreement, ...]:
    rows = [
        PairAgreement(names[one], names[other], table.total(), _share(table), cohen_kappa(table))
        for (one, other), table in pair_tables(images).items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.images, row.one, row.other))[:PAIRS_SHOWN])


def _mixed_up(images: Sequence[Said], in_images: Counter[int], names: Mapping[int, str]) -> tuple[MixedUp, ...]:
    both = Counter(pair for said in images for pair in combinations(sorted(set(said.values())), 2))
    rows = [
        MixedUp(names[one], names[other], times, times / (in_images[one] + in_images[other] - times))
        for (one, other), times in both.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.images, -row.share, row.one, row.other))[:MIXED_UP_SHOWN])


def _share(table: Table) -> float:
    agreed = sum((Fraction(weight) for (one, other), weight in table.items() if one == other), Fraction())
    return float(agreed / sum(table.values()))


def _class_names(session: Session, project_id: int) -> dict[int, str]:
    known = select(Class.id, Class.name).where(Class.project_id == project_id).order_by(Class.position)
    return dict(session.execute(known).all())


def _names(session: Session, images: Sequence[Said]) -> dict[int, str]:
    wanted = {user_id for said in images for user_id in said}
    return dict(session.execute(select(User.id, User.name).where(User.id.in_(wanted))).all())
