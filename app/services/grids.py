"""The grid: pages of images that the network believes to be of one class, so that people say which ones are not.

A page is claimed like anything else (leases, overlap, budget; nobody twice), but by class, the surest images first:
what is wrong then gathers at the end of a page, and most of it takes one look. Or it is of a cluster: images that look
alike, of which the person says the class. Only what the strategy chose is asked so; fair samples and test images are
answered one by one, without having seen what the network believes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, union_all, update
from sqlalchemy.orm import Session

from app.errors import NotAllowed
from app.records import Class, Lease, Model, Project, ProjectState, Query
from app.services import claiming, labeling_progress, leases, projects
from app.services.claiming import Alike, Ask, takeable
from app.services.labeling_progress import Nothing, NothingKind
from app.services.locks import lock_project

LEAST_ALIKE = 2  # images that make a page of a cluster


@dataclass(frozen=True)
class OpenClass:
    """A class with the number of queries that a person may take of it, ``in_batch`` of them not beyond the batch."""

    class_id: int
    name: str
    count: int
    in_batch: int


@dataclass(frozen=True)
class OpenCluster:
    """A cluster with the number of queries that a person holds or may take of it, ``in_batch`` not beyond the batch."""

    cluster: int
    count: int
    in_batch: int


@dataclass(frozen=True)
class GridPage:
    """Queries about images that are believed to be of one class, the surest first, or that are of one ``cluster``.

    Of a cluster, the class is the one that the network believes of most of its page, None where it believes nothing.
    """

    class_id: int | None = None
    class_name: str | None = None
    cluster: int | None = None
    asks: tuple[Ask, ...] = ()


@dataclass(frozen=True)
class Wish:
    """What a person would like a page of: a class, or a cluster, or else whatever is first, ``with_clusters`` or not.

    Another page of the same kind is as good; the other kind comes when there is none.
    """

    class_id: int | None = None
    cluster: int | None = None
    with_clusters: bool = False


ANYTHING = Wish()


def take_page(
    session: Session, project_id: int, user_id: int, count: int, lease_seconds: float, *, wish: Wish = ANYTHING
) -> GridPage:
    """Take a page of up to ``count`` queries: of what is wished for while there is any, else of the first that has.

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
    leases.return_expired(session, project_id)
    leases.return_orphans(session, project_id, user_id, lease_seconds)
    for of in _offered(session, project_id, user_id, wish):
        asks = claiming.claim_page(session, project_id, user_id, of, count, lease_seconds=lease_seconds)
        if asks:
            return _page(session, of, tuple(asks))
    return GridPage()


def _offered(session: Session, project_id: int, user_id: int, wish: Wish) -> list[tuple[Alike, int]]:
    """Return what pages may be of, in the order in which they are tried."""
    classes = [known.class_id for known in open_classes(session, project_id, user_id)]
    of_class = [(Alike.CLASS, class_id) for class_id in sorted(classes, key=lambda known: known != wish.class_id)]
    if not wish.with_clusters:
        return of_class
    clusters = [known.cluster for known in open_clusters(session, project_id, user_id)]
    of_cluster = [(Alike.CLUSTER, cluster) for cluster in sorted(clusters, key=lambda known: known != wish.cluster)]
    return of_class + of_cluster if wish.cluster is None else of_cluster + of_class


def _page(session: Session, of: tuple[Alike, int], asks: tuple[Ask, ...]) -> GridPage:
    """Say what is believed of the images just taken."""
    alike, value = of
    known = (
        select(Class.id, Class.name)
        .join(Query, Query.predicted_class_id == Class.id)
        .where(Query.id.in_([ask.query_id for ask in asks]), Class.retired_at.is_(None))
        .group_by(Class.id, Class.name, Class.position)
        .order_by(func.count().desc(), Class.position)
    )
    believed = session.execute(known.limit(1)).one_or_none()
    class_id, name = (None, None) if believed is None else believed
    return GridPage(class_id, name, value if alike is Alike.CLUSTER else None, asks)


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


def open_clusters(session: Session, project_id: int, user_id: int) -> list[OpenCluster]:
    """Return the clusters that a person can be shown a page of; what is alone in one is asked one by one.

    Those that the batch waits for come first, then those whose images the ranking put first. What the person holds
    counts as well, since it may be on pages of classes, and is given back when another page is wished for.
    """
    clustered = select(Query.cluster, Query.reserve).where(Query.cluster.is_not(None))
    held = clustered.join(Lease, Lease.query_id == Query.id).where(
        Lease.project_id == project_id, Lease.user_id == user_id, Query.superseded_at.is_(None)
    )
    known = union_all(clustered.where(*takeable(project_id, user_id)), held).subquery()
    count, in_batch = func.count(), func.count().filter(~known.c.reserve)
    found = session.execute(
        select(known.c.cluster, count, in_batch)
        .group_by(known.c.cluster)
        .having(count >= LEAST_ALIKE)
        .order_by((in_batch > 0).desc(), known.c.cluster)
    )
    return [OpenCluster(*row) for row in found]


def put_back(session: Session, project_id: int, user_id: int, query_ids: Sequence[int]) -> int:
    """Give back queries of which the person said that they do not belong on their page; return how many were held.

    From now on they are asked one by one, of everybody: on a page of that class they would come again and again.
    """
    project = lock_project(session, project_id)
    held = session.execute(
        select(Lease.id, Lease.query_id)
        .where(Lease.project_id == project_id, Lease.user_id == user_id, Lease.query_id.in_(query_ids))
        .order_by(Lease.id)
    ).all()
    session.execute(
        update(Query)
        .where(Query.id.in_([query_id for _, query_id in held]))
        .values(predicted_class_id=None, confidence=None, cluster=None)
    )
    leases.give_back(session, project, [lease_id for lease_id, _ in held])
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
