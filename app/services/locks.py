"""The one lock order of all writers: the project's row first, then queries, then leases and images.

Claiming alone does not take the project's row (unless the budget is nearly spent): it skips queries that others hold,
so it never waits and cannot close a circle.
"""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.errors import NotFound
from app.records import Project, Query


def lock_claims(session: Session, project_id: int, user_id: int) -> None:
    """Let one person's claims in a project take turns, until the transaction ends; taken before anything else."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"claim {project_id} {user_id}", 0))))


def lock_project(session: Session, project_id: int) -> Project:
    """Lock and return a project, read anew.

    Raises:
        NotFound: there is no such project.
    """
    found = session.scalars(
        select(Project)
        .where(Project.id == project_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if found is None:
        raise NotFound(f"project {project_id}", "there is no such project", "choose one from the list of projects")
    return found


def lock_query(session: Session, project_id: int, query_id: int) -> Query:
    """Lock and return a query of a project, read anew.

    Raises:
        NotFound: the project has no such query.
    """
    found = session.scalars(
        select(Query)
        .where(Query.id == query_id, Query.project_id == project_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if found is None:
        raise NotFound(f"query {query_id}", "this project never asked it", "reload the labeling page")
    return found
