"""Gold images: those whose answer is known, by which people are checked (``app.services.checks``).

What is known is the imported truth or the label that people gave. A gold image is asked about as a check only: rounds
leave it out, so that nobody who was told its answer labels it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, exists, func, select, update
from sqlalchemy.orm import Session

from app.errors import BadInput, Conflict
from app.records import CHECKS, Image, Query, Split
from app.services.locks import lock_project

MOST_AT_ONCE = 10_000


def mark_some(session: Session, project_id: int, count: int) -> int:
    """Make ``count`` images gold, or as many as there are, that have an imported class and that nobody is asked about.

    They are drawn by the hash of their files, so the same project gives the same images.

    Raises:
        BadInput: the count is out of bounds.
        Conflict: there is no such image.
    """
    if not 1 <= count <= MOST_AT_ONCE:
        raise BadInput("number", f"{count} is out of bounds", f"use 1 to {MOST_AT_ONCE} images")
    project = lock_project(session, project_id)
    drawn = func.md5(func.concat(Image.content_hash, str(project.recipe["seed"])))
    free = (
        select(Image.id)
        .where(Image.project_id == project_id, Image.split == Split.POOL, Image.true_class_id.is_not(None))
        .where(~Image.has_human_label, Image.gold_class_id.is_(None), Image.unusable_at.is_(None), ~_is_asked())
        .order_by(drawn)
        .limit(count)
    )
    marked = _mark(session, session.scalars(free).all())
    if not marked:
        reason = "no image of the pool has an imported class and waits to be asked about"
        raise Conflict("gold images", reason, "name labelled images instead")
    return marked


def mark_named(session: Session, project_id: int, names: Sequence[str]) -> int:
    """Make images gold by the names of their files, with their imported class, else the label that they have.

    Raises:
        BadInput: no name, too many, an unknown one, or an image whose class is not known.
        Conflict: people are being asked about one of the images.
    """
    wanted = sorted({name.strip() for name in names if name.strip()})
    if not 1 <= len(wanted) <= MOST_AT_ONCE:
        raise BadInput("names", f"there are {len(wanted)}", f"name 1 to {MOST_AT_ONCE} files, one a line")
    lock_project(session, project_id)
    known = func.coalesce(Image.true_class_id, Image.label_class_id)
    rows = session.execute(
        select(Image.id, Image.name, known, _is_asked()).where(Image.project_id == project_id, Image.name.in_(wanted))
    ).all()
    found = {name for _, name, _, _ in rows}
    if missing := [name for name in wanted if name not in found]:
        raise BadInput("names", f"no image is called {_listed(missing)}", "copy the names from the pages")
    if unknown := [name for _, name, class_id, _ in rows if class_id is None]:
        raise BadInput("names", f"nobody knows the class of {_listed(unknown)}", "label them first")
    if asked := [name for _, name, _, is_asked in rows if is_asked]:
        raise Conflict("names", f"people are being asked about {_listed(asked)}", "wait for their answers")
    return _mark(session, [image_id for image_id, _, _, _ in rows])


def unmark_all(session: Session, project_id: int) -> int:
    """Let all gold images be ordinary ones again; what people answered is kept. Return how many there were."""
    lock_project(session, project_id)
    ended = (
        update(Image)
        .where(Image.project_id == project_id, Image.gold_class_id.is_not(None))
        .values(gold_class_id=None)
        .returning(Image.id)
    )
    return len(session.scalars(ended).all())


def count_gold(session: Session, project_id: int) -> int:
    """Return how many images of a project are gold."""
    gold = select(func.count()).where(Image.project_id == project_id, Image.gold_class_id.is_not(None))
    return session.scalar(gold) or 0


def _mark(session: Session, image_ids: Sequence[int]) -> int:
    known = func.coalesce(Image.true_class_id, Image.label_class_id)
    marked = update(Image).where(Image.id.in_(image_ids)).values(gold_class_id=known).returning(Image.id)
    return len(session.scalars(marked, execution_options={"synchronize_session": False}).all())


def _is_asked() -> ColumnElement[bool]:
    return exists().where(Query.image_id == Image.id, Query.closed_at.is_(None), Query.source.not_in(CHECKS))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
