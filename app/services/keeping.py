"""Keeping an answer: everything that it changes, written in one statement.

All answers to a project wait for each other, so each way to the database counts: with one for every table, fifty
people could not answer once a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from sqlalchemy import BindParameter, Boolean, Select, Table, bindparam, delete, insert, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from app.database import Base
from app.records import Annotation, Image, Lease, Project, Query

GIVEN = (
    "client_id", "project_id", "query_id", "image_id", "user_id", "outcome", "class_id", "seconds_taken", "reason",
    "saw_prediction", "in_cluster", "corrects_id", "counted", "is_check",
)  # fmt: skip
CHANGED: Mapping[type[Base], tuple[str, ...]] = {
    Query: ("open_answers", "closed_at"),
    Image: (
        "label_class_id", "has_human_label", "label_rule", "label_certainty", "review_reason", "unusable_at",
    ),
    Project: ("labels_used",),
}  # fmt: skip


def keep(
    session: Session, given: Mapping[str, Any], project: Project, query: Query, image: Image, *, ends_lease: bool
) -> int:
    """Write an answer and what it made of its locked query, image and project; return the annotation's id.

    Args:
        given: the annotation's columns, those of ``GIVEN``.
        ends_lease: whether the person lets go of the query.
    """
    values = {_place(Annotation, name): given[name] for name in GIVEN} | {"ends_lease": ends_lease}
    rows: dict[type[Base], Project | Query | Image] = {Project: project, Query: query, Image: image}
    for kind, names in CHANGED.items():
        values |= {_place(kind, "id"): rows[kind].id}
        values |= {_place(kind, name): getattr(rows[kind], name) for name in names}
    annotation_id: int = session.connection().execute(_statement(), values).scalar_one()
    for kind, names in CHANGED.items():
        for name in names:
            set_committed_value(rows[kind], name, getattr(rows[kind], name))  # it need not be written again
    return annotation_id


@cache
def _statement() -> Select[Any]:
    annotations, leases = _table(Annotation), _table(Lease)
    written = insert(annotations).values({name: _value(Annotation, name) for name in GIVEN})
    kept = written.returning(annotations.c.id).cte("kept")
    ends: BindParameter[bool] = bindparam("ends_lease", type_=Boolean)
    held = leases.c.query_id == _value(Query, "id"), leases.c.user_id == _value(Annotation, "user_id")
    ended = delete(leases).where(*held, ends).returning(leases.c.id).cte("ended")
    changed = [
        update(_table(kind))
        .where(_table(kind).c.id == _value(kind, "id"))
        .values({name: _value(kind, name) for name in names})
        .returning(_table(kind).c.id)
        .cte(f"changed_{_table(kind).name}")
        for kind, names in CHANGED.items()
    ]
    return select(kept.c.id).add_cte(ended, *changed)


def _table(kind: type[Base]) -> Table:
    return cast(Table, kind.__table__)


def _place(kind: type[Base], name: str) -> str:
    return f"{_table(kind).name}_{name}"


def _value(kind: type[Base], name: str) -> BindParameter[Any]:
    return bindparam(_place(kind, name), type_=_table(kind).c[name].type)
