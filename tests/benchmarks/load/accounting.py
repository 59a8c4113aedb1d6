"""What must be true of the database when everybody has gone home: every accepted answer is there, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select

from app.database import Database
from app.records import Annotation, Lease, Project, Query
from app.services.queue import standing


@dataclass(frozen=True)
class Account:
    """``stored`` are annotations; ``duplicates`` is how many answers an image, or a person for it, has too many."""

    stored: int
    duplicates: int
    wrong: list[str]


def settle_accounts(database: Database, project_id: int, answered: Mapping[str, int]) -> Account:
    """Compare what people were told was kept with what is there.

    Args:
        answered: the query of every accepted answer, by client id.
    """
    with database.transaction() as session:
        of_project = Annotation.project_id == project_id
        stored = session.execute(select(Annotation.client_id, Annotation.query_id).where(of_project)).all()
        counted = of_project, *standing()
        per_image = select(func.count().label("given")).where(*counted).group_by(Annotation.image_id).subquery()
        too_many = session.scalar(select(func.sum(per_image.c.given - 1)).where(per_image.c.given > 1)) or 0
        used = session.scalar(select(Project.labels_used).where(Project.id == project_id))
        held = select(func.count()).where(Lease.query_id == Query.id).scalar_subquery()
        given = select(func.count()).where(Annotation.query_id == Query.id, *standing()).scalar_subquery()
        uneven = session.scalar(
            select(func.count()).where(
                Query.project_id == project_id,
                Query.superseded_at.is_(None),
                Query.wanted_answers != Query.open_answers + held + given,
            )
        )
    in_database = {str(client_id): query_id for client_id, query_id in stored}
    wrong = []
    if in_database != dict(answered):
        lost, extra = len(answered.keys() - in_database.keys()), len(in_database.keys() - answered.keys())
        wrong.append(f"{lost} accepted answers are not stored, {extra} stored ones were not accepted")
    if used != len(stored):
        wrong.append(f"labels_used is {used} after {len(stored)} labels")
    if uneven:
        wrong.append(f"{uneven} queries whose answers, leases and open answers do not add up")
    return Account(len(stored), int(too_many), wrong)
