"""The grid: pages of images that the network believes to be of one class, so that people say which ones are not.

A page is claimed like anything else (leases, overlap, budget; nobody twice), but by class, the surest images first:
what is wrong then gathers at the end of a page, and most of it takes one look. Only what the strategy chose is asked
so; seeds, fair samples and test images are answered one by one, without having seen what the network believes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.errors import NotAllowed
from app.records import Class, Lease, Model, Project, ProjectState, Query
from app.services import claiming, labeling_progress, projects
from app.services.claiming import Ask, takeable
from app.services.labeling_progress import Nothing, NothingKind
from app.services.locks import lock_project
from app.services.queue import return_leases


@dataclass(frozen=True)
class OpenClass:
    """A class with the number of queries that a person may take of it, ``in_batch`` of them not beyond the batch."""

    class_id: int
    name: str
    count: int
    in_batch: int


@dataclass(frozen=True)
class GridPage:
    """Queries about images that are believed to be of one class, the surest first; no class when there are none."""

    class_id: int | None = None
    class_name: str | None = None
    asks: tuple[Ask, ...] = ()


def take_page(
    session: Session, project_id: int, user_id: int, count: int, lease_seconds: float, *, class_id: int | None = None
) -> GridPage:
    """Take a page of up to ``count`` queries: of ``class_id`` while it has any, else of the first that has.

    What expired, and what a page of this person left behind when it crashed, is given back first.

    Raises:
        NotFound: there is no such project, or the person never was a member of it.
        NotAMember: not any more.
        NotAllowed: people answer blind in this project.
    """
    project = projects.get(session, project_id)
    check_allowed(project)
    if project.state is not ProjectState.RUNNING:
        return GridPage()
    claiming.take_turns(session, project_id, user_id)
    claiming.return_expired(session, project_id)
    claiming.return_orphans(session, project_id, user_id, lease_seconds)
    offered = open_classes(session, project_id, user_id)
    for wanted in sorted(offered, key=lambda known: known.class_id != class_id):
        asks = claiming.claim_predicted(
            session, project_id, user_id, wanted.class_id, count, lease_seconds=lease_seconds
        )
        if asks:
            return GridPage(wanted.class_id, wanted.name, tuple(asks))
    return GridPage()


def open_classes(session: Session, project_id: int, user_id: int) -> list[OpenClass]:
    """Return the classes that a person can be shown a page of, in the order in which pages are offered.

    Those that the batch waits for come first, then those with most queries.
    """
    count, in_batch = func.count(), func.count().filter(~Query.reserve)
    found = session.execute(
        select(Class.id, Class.name, count, in_batch)
        .join(Query, Query.predicted_class_id == Class.id)
        .where(*takeable(project_id, user_id), Class.project_id == project_id, Class.retired_at.is_(None))
        .group_by(Class.id, Class.name, Class.position)
        .order_by((in_batch > 0).desc(), count.desc(), Class.position)
    )
    return [OpenClass(*row) for row in found]


def put_back(session: Session, project_id: int, user_id: int, query_ids: Sequence[int]) -> int:
    """Give back queries of which the person said that they are not of the class; return how many were held.

    From now on they are asked one by one, of everybody: on a page of that class they would come again and again.
    """
    lock_project(session, project_id)
    held = session.execute(
        select(Lease.id, Lease.query_id)
        .where(Lease.project_id == project_id, Lease.user_id == user_id, Lease.query_id.in_(query_ids))
        .order_by(Lease.id)
    ).all()
    session.execute(
        update(Query)
        .where(Query.id.in_([query_id for _, query_id in held]))
        .values(predicted_class_id=None, confidence=None)
    )
    return_leases(session, project_id, [lease_id for lease_id, _ in held])
    return len(held)


def why_no_page(session: Session, project_id: int, user_id: int) -> Nothing:
    """Say why there is no page for a person, though there may well be images to label one by one."""
    project = projects.get(session, project_id)
    why = labeling_progress.why_nothing(session, project_id, user_id)
    if why.kind in (NothingKind.IMPORTING, NothingKind.EMPTY, NothingKind.PAUSED, NothingKind.BUDGET):
        return why
    if session.scalar(select(Query.id).where(*takeable(project.id, user_id), ~Query.reserve).limit(1)) is None:
        return why
    has_model = session.scalar(select(Model.id).where(Model.project_id == project_id).limit(1)) is not None
    return Nothing(NothingKind.ONE_BY_ONE if has_model else NothingKind.NO_MODEL, wait=True)


def check_allowed(project: Project) -> None:
    """Raise NotAllowed where people answer blind: a page of one class says what the network believes."""
    if not project.shows_reasons:
        reason = "people answer this project without seeing what the network believes"
        raise NotAllowed("the grid", reason, "label its images one by one")
