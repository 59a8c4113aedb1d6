"""A person's own statistics: what they did today, this week and in all, and what their projects still want."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from app.records import Annotation, Project, ProjectState, Query
from app.services import members
from app.services.reporting.people_statistics import NOTHING, Period, Spans, added, work_of

MOST_PROJECTS = 24


@dataclass(frozen=True)
class OwnProject:
    """One project of a person's.

    Attributes:
        spans: what the person did there, by period.
        labels_used: labels given by everybody, out of ``budget``.
        asked: images of the batch that nobody has answered yet, or not often enough.
    """

    id: int
    name: str
    state: ProjectState
    spans: Spans
    labels_used: int
    budget: int
    asked: int

    @property
    def remaining(self) -> int:
        """Labels that may still be given."""
        return self.budget - self.labels_used


@dataclass(frozen=True)
class OwnStatistics:
    """All projects together, and each; ``is_cut`` says that there are more projects, or older answers."""

    total: Spans
    projects: tuple[OwnProject, ...]
    is_cut: bool


def own_statistics(session: Session, user_id: int) -> OwnStatistics:
    """Return a person's statistics in the projects that they may see, those first in which they answered."""
    answered = exists().where(Annotation.project_id == Project.id, Annotation.user_id == user_id)
    wanted = select(Project).where(members.may_see(user_id)).order_by(answered.desc(), Project.id.desc())
    found = session.scalars(wanted.limit(MOST_PROJECTS + 1)).all()
    shown = found[:MOST_PROJECTS]
    ids = [project.id for project in shown]
    works = work_of(session, [user_id], ids)
    asked = _asked(session, ids)
    total = added(works.values())
    return OwnStatistics(
        total=total,
        projects=tuple(
            OwnProject(
                id=project.id,
                name=project.name,
                state=project.state,
                spans=works.get((user_id, project.id), (NOTHING,) * len(Period)),
                labels_used=project.labels_used,
                budget=project.budget,
                asked=asked.get(project.id, 0),
            )
            for project in shown
        ),
        is_cut=len(found) > MOST_PROJECTS or total[Period.ALL].is_cut,
    )


def _asked(session: Session, project_ids: Sequence[int]) -> dict[int, int]:
    counts = (
        select(Query.project_id, func.count())
        .where(Query.project_id.in_(project_ids), Query.closed_at.is_(None), ~Query.reserve)
        .group_by(Query.project_id)
    )
    return {row[0]: row[1] for row in session.execute(counts)}
