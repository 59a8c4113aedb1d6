"""Leases once they are there: held for longer, given back, or run out. ``app.services.claiming`` makes them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from app.records import Lease, Project
from app.services import rounds
from app.services.locks import lock_project
from app.services.queue import return_leases


def renew(session: Session, project_id: int, user_id: int, query_ids: Sequence[int], lease_seconds: float) -> list[int]:
    """Hold queries for longer; return those that the person still holds."""
    held = update(Lease).where(Lease.project_id == project_id, Lease.user_id == user_id, Lease.query_id.in_(query_ids))
    renewed = held.values(expires_at=func.now() + timedelta(seconds=lease_seconds)).returning(Lease.query_id)
    return sorted(session.scalars(renewed).all())


def release(session: Session, project_id: int, user_id: int, query_ids: Sequence[int] | None = None) -> int:
    """Give queries back (all of the person's when none are named); return how many were held."""
    held = select(Lease.id).where(Lease.project_id == project_id, Lease.user_id == user_id)
    return _give_back(session, project_id, held if query_ids is None else held.where(Lease.query_id.in_(query_ids)))


def return_expired(session: Session, project_id: int) -> int:
    """Give back the queries whose leases have run out by the database's clock; return how many."""
    expired = select(Lease.id).where(Lease.project_id == project_id, Lease.expires_at < func.now())
    return 0 if session.scalar(expired.limit(1)) is None else _give_back(session, project_id, expired)


def return_orphans(
    session: Session, project_id: int, user_id: int, lease_seconds: float, orphans_after: float = 0.5
) -> int:
    """Give back a person's own leases that nothing has renewed for ``orphans_after`` of their time; return how many."""
    left = timedelta(seconds=lease_seconds * (1.0 - orphans_after))
    orphans = select(Lease.id).where(
        Lease.project_id == project_id, Lease.user_id == user_id, Lease.expires_at <= func.now() + left
    )
    return 0 if session.scalar(orphans.limit(1)) is None else _give_back(session, project_id, orphans)


def give_back(session: Session, project: Project, lease_ids: Sequence[int]) -> None:
    """End leases of a locked project, let others take their queries, and see whether that makes a round due.

    It does where the latest round asked nothing, because what was held was all that the budget had left.
    """
    return_leases(session, project.id, lease_ids)
    rounds.request_if_due(session, project)


def _give_back(session: Session, project_id: int, which: Select[int]) -> int:
    """Give back the leases that there are once it is this transaction's turn."""
    project = lock_project(session, project_id)
    lease_ids = session.scalars(which.order_by(Lease.id)).all()
    give_back(session, project, lease_ids)
    return len(lease_ids)
