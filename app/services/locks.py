"""The one lock order of all writers: the project's row first, then queries, then leases and images.

Claiming alone does not take the project's row, unless the budget is nearly spent or leases have run out: it skips
queries that others hold, so it never waits and cannot close a circle. When it takes the row, it holds no query yet.

Every answer and every claim goes through here, and building a statement takes longer than running it, so each is built
once.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import BigInteger, Select, String, bindparam, func, select
from sqlalchemy.orm import Session

from app.errors import NotFound
from app.records import Project, Query


def lock_claims(session: Session, project_id: int, user_id: int) -> None:
    """Let one person's claims in a project take turns, until the transaction ends; taken before anything else."""
    session.execute(_turn_statement(), {"turn": f"claim {project_id} {user_id}"})


def lock_project(session: Session, project_id: int) -> Project:
    """Lock and return a project, read anew.

    Raises:
        NotFound: there is no such project.
    """
    found = session.scalars(_project_statement(), {"project": project_id}).one_or_none()
    if found is None:
        raise NotFound(f"project {project_id}", "there is no such project", "choose one from the list of projects")
    return found


def lock_query(session: Session, project_id: int, query_id: int) -> Query:
    """Lock and return a query of a project, read anew.

    Raises:
        NotFound: the project has no such query.
    """
    found = session.scalars(_query_statement(), {"query": query_id, "project": project_id}).one_or_none()
    if found is None:
        raise NotFound(f"query {query_id}", "this project never asked it", "reload the labeling page")
    return found


def lock_project_and_query(session: Session, project_id: int, query_id: int) -> tuple[Project, Query]:
    """Lock and return a project and one of its queries, read anew, in one statement.

    Raises:
        NotFound: there is no such project, or it has no such query.
    """
    found = session.execute(_both_statement(), {"project": project_id, "query": query_id}).one_or_none()
    if found is None:  # these say what is missing
        return lock_project(session, project_id), lock_query(session, project_id, query_id)
    project, query = found
    return project, query


@cache
def _turn_statement() -> Select[None]:
    return select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("turn", type_=String), 0)))


@cache
def _project_statement() -> Select[Project]:
    found = select(Project).where(Project.id == bindparam("project", type_=BigInteger))
    return found.with_for_update(key_share=True).execution_options(populate_existing=True)


@cache
def _query_statement() -> Select[Query]:
    of_project = Query.project_id == bindparam("project", type_=BigInteger)
    found = select(Query).where(Query.id == bindparam("query", type_=BigInteger), of_project)
    return found.with_for_update(key_share=True).execution_options(populate_existing=True)


@cache
def _both_statement() -> Select[Project, Query]:
    """Lock the rows in the order in which they are named, which is that of all writers."""
    found = (
        select(Project, Query)
        .join(Query, Query.project_id == Project.id)
        .where(Project.id == bindparam("project", type_=BigInteger), Query.id == bindparam("query", type_=BigInteger))
    )
    return found.with_for_update(key_share=True, of=(Project, Query)).execution_options(populate_existing=True)
