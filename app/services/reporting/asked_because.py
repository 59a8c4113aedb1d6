"""Why an image is asked: the score and its parts, what the network believes, and what it has seen that is like it.

All of it was stored with the query when the ranking was made, and stays as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session

from app.errors import NotAllowed, NotFound
from app.records import CHECKS, Annotation, Class, Image, Lease, Model, Query, QuerySource, Round
from app.services import projects
from app.services.checks import SHOWN_AS_RESERVE
from app.services.reporting.listing import Thumb

_NO_NUMBERS = frozenset({"acquisition", "top", "neighbours", SHOWN_AS_RESERVE})


@dataclass(frozen=True)
class Neighbour:
    """An image that people had labelled, and how like the network finds it: the cosine of their features."""

    thumb: Thumb
    class_name: str
    similarity: float


@dataclass(frozen=True)
class RankedBy:
    """The network that made the ranking; its accuracy with the 95% Wilson interval, if it was measured."""

    network: str
    labels: int | None
    accuracy: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class AskedBecause:
    """Why one image is asked; ``top`` are the likeliest classes, ``parts`` what the score is made of."""

    round_number: int
    rank: int
    source: QuerySource
    reserve: bool
    acquisition: str | None
    score: float | None
    propensity: float | None
    parts: tuple[tuple[str, float], ...]
    top: tuple[tuple[str, float], ...]
    neighbours: tuple[Neighbour, ...]
    ranked_by: RankedBy | None

    @property
    def predicts(self) -> bool:
        """Whether it tells what the network believes, so that an answer given after it is not blind."""
        return bool(self.top or self.neighbours)


@dataclass(frozen=True)
class _Asked:
    """What is stored with a query about why it is asked."""

    source: QuerySource
    reserve: bool
    score: float | None
    propensity: float | None
    parts: Mapping[str, Any]


def asked_because(session: Session, project_id: int, query_id: int, user_id: int) -> AskedBecause:
    """Return why a person is asked, or was asked, about an image.

    Raises:
        NotFound: no such project or query.
        NotAllowed: people answer blind in this project, or this query is somebody else's.
    """
    project = projects.get(session, project_id)
    if not project.shows_reasons:
        reason = "people answer this project without seeing what the network believes"
        raise NotAllowed("why this image", reason, "look into the history of rounds after labeling")
    found = session.execute(
        select(Query, Round.number, Round.labels, Model)
        .join(Round, Round.id == Query.round_id)
        .join(Model, Model.round_id == Round.id, isouter=True)
        .where(Query.id == query_id, Query.project_id == project_id)
    ).first()
    if found is None:
        raise NotFound(f"query {query_id}", "this project never asked it", "reload the labeling page")
    query, round_number, labels, model = found
    _check_own(session, query, user_id)
    asked = _as_asked(session, query, user_id)
    return AskedBecause(
        round_number=round_number,
        rank=query.rank,
        source=asked.source,
        reserve=asked.reserve,
        acquisition=asked.parts.get("acquisition"),
        score=asked.score,
        propensity=asked.propensity,
        parts=tuple((name, float(value)) for name, value in asked.parts.items() if name not in _NO_NUMBERS),
        top=_top(session, asked.parts),
        neighbours=_neighbours(session, asked.parts),
        ranked_by=None if model is None else _ranked_by(model, labels),
    )


def _as_asked(session: Session, query: Query, user_id: int) -> _Asked:
    """Return what the card tells: until it is answered, a check looks as its image did when a ranking asked for it."""
    told = _Asked(query.source, query.reserve, query.score, query.propensity, query.parts)
    if query.source not in CHECKS:
        return told
    given = exists().where(Annotation.query_id == query.id, Annotation.user_id == user_id, Annotation.is_check)
    if session.scalar(select(given)):
        return told
    reserve = bool(query.parts.get(SHOWN_AS_RESERVE))
    ranked = (QuerySource.SEED, QuerySource.ACQUISITION, QuerySource.RANDOM)
    before = session.scalar(
        select(Query)
        .where(Query.image_id == query.image_id, Query.source.in_(ranked))
        .order_by(Query.id.desc())
        .limit(1)
    )
    if before is None:
        return _Asked(QuerySource.RANDOM, reserve, None, None, {"acquisition": "random"})
    return _Asked(before.source, reserve, before.score, before.propensity, before.parts)


def _check_own(session: Session, query: Query, user_id: int) -> None:
    own = or_(
        exists().where(Lease.query_id == query.id, Lease.user_id == user_id),
        exists().where(Annotation.query_id == query.id, Annotation.user_id == user_id),
    )
    if not session.scalar(select(own)):
        raise NotAllowed("why this image", "you neither hold this image nor answered it", "look at one of yours")


def _top(session: Session, parts: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    top = parts.get("top") or []
    names = _names(session, [class_id for class_id, _ in top])
    return tuple((names.get(class_id, str(class_id)), float(chance)) for class_id, chance in top)


def _neighbours(session: Session, parts: Mapping[str, Any]) -> tuple[Neighbour, ...]:
    stored = parts.get("neighbours") or []
    names = _names(session, [class_id for _, class_id, _ in stored])
    sizes = {
        image_id: Thumb(image_id, width, height)
        for image_id, width, height in session.execute(
            select(Image.id, Image.width, Image.height).where(Image.id.in_([image_id for image_id, _, _ in stored]))
        )
    }
    return tuple(
        Neighbour(sizes[image_id], names.get(class_id, str(class_id)), float(similarity))
        for image_id, class_id, similarity in stored
        if image_id in sizes
    )


def _names(session: Session, class_ids: Sequence[int]) -> dict[int, str]:
    if not class_ids:
        return {}
    return dict(session.execute(select(Class.id, Class.name).where(Class.id.in_(class_ids))).all())


def _ranked_by(model: Model, labels: int | None) -> RankedBy:
    metrics = model.metrics or {}
    return RankedBy(
        network=str(model.network.get("name", "")),
        labels=labels,
        accuracy=metrics.get("test_accuracy"),
        low=metrics.get("test_accuracy_low"),
        high=metrics.get("test_accuracy_high"),
    )
