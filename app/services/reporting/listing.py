"""The list of projects: one card each, with images from its pool and what its network has reached."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, exists, select, true
from sqlalchemy.orm import Session

from app.records import Image, Import, ImportState, OracleKind, Project, ProjectState, Round, RoundState
from app.services import members

PAGE_SIZE = 24
COVER_SIZE = 12
TINY_SIDE = 64


@dataclass(frozen=True)
class Thumb:
    """An image as pages show it; ``is_tiny`` ones are drawn with hard pixels instead of blurred."""

    image_id: int
    width: int
    height: int

    @property
    def is_tiny(self) -> bool:
        """Whether it is smaller than it is drawn."""
        return max(self.width, self.height) <= TINY_SIDE


@dataclass(frozen=True)
class ProjectCard:
    """A project in the list; the accuracy is the latest finished round's, on the test images."""

    id: int
    name: str
    description: str
    state: ProjectState
    oracle: OracleKind
    labels_used: int
    budget: int
    image_count: int
    is_importing: bool
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    cover: tuple[Thumb, ...]


@dataclass(frozen=True)
class ProjectList:
    """One page of projects, newest first; ``next_before`` is the id to go on from, if there are more."""

    cards: tuple[ProjectCard, ...]
    next_before: int | None


def list_projects(session: Session, before: int | None = None, seen_by: int | None = None) -> ProjectList:
    """Return a page of projects, those with ids below ``before`` and that the person ``seen_by`` may see."""
    wanted = _wanted(before)
    found = session.execute(wanted if seen_by is None else wanted.where(members.may_see(seen_by))).all()
    shown = found[:PAGE_SIZE]
    covers = _covers(session, [row[0].id for row in shown])
    cards = tuple(
        ProjectCard(
            id=project.id,
            name=project.name,
            description=project.description,
            state=project.state,
            oracle=project.oracle,
            labels_used=project.labels_used,
            budget=project.budget,
            image_count=project.image_count,
            is_importing=is_importing,
            accuracy=accuracy,
            accuracy_low=low,
            accuracy_high=high,
            cover=covers.get(project.id, ()),
        )
        for project, is_importing, accuracy, low, high in shown
    )
    return ProjectList(cards, cards[-1].id if len(found) > PAGE_SIZE else None)


def _wanted(before: int | None) -> Select[Project, bool, float, float, float]:
    latest = (
        select(
            Round.metrics["test_accuracy"].as_float().label("accuracy"),
            Round.metrics["test_accuracy_low"].as_float().label("low"),
            Round.metrics["test_accuracy_high"].as_float().label("high"),
        )
        .where(Round.project_id == Project.id, Round.state == RoundState.DONE)
        .order_by(Round.number.desc())
        .limit(1)
        .lateral()
    )
    importing = exists().where(
        Import.project_id == Project.id, Import.state.in_((ImportState.REQUESTED, ImportState.RUNNING))
    )
    wanted = (
        select(Project, importing, latest.c.accuracy, latest.c.low, latest.c.high)
        .join(latest, true(), isouter=True)
        .order_by(Project.id.desc())
        .limit(PAGE_SIZE + 1)
    )
    return wanted if before is None else wanted.where(Project.id < before)


def _covers(session: Session, project_ids: Sequence[int]) -> dict[int, tuple[Thumb, ...]]:
    first = (
        select(Image.id, Image.width, Image.height, Image.row)
        .where(Image.project_id == Project.id)
        .order_by(Image.row)
        .limit(COVER_SIZE)
        .lateral()
    )
    rows = session.execute(
        select(Project.id, first.c.id, first.c.width, first.c.height)
        .join(first, true())
        .where(Project.id.in_(project_ids))
        .order_by(Project.id, first.c.row)
    )
    covers: dict[int, list[Thumb]] = defaultdict(list)
    for project_id, image_id, width, height in rows:
        covers[project_id].append(Thumb(image_id, width, height))
    return {project_id: tuple(thumbs) for project_id, thumbs in covers.items()}
