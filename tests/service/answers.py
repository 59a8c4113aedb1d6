"""What people say in tests: everybody answers the same images through claims, as pages do."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.records import Image, Outcome, Project
from app.services import claiming, labeling, leases
from app.services.labeling import Answer
from tests.factories import classes_of, make_project, make_round

LEASE = 60.0


def say(session: Session, project: Project, user_id: int, words: Mapping[int, str]) -> None:
    """Let a person answer the images at rows: with a class's name, or "?" for unsure, "!" for unusable, "-" to skip."""
    classes = {known.name: known.id for known in classes_of(session, project)}
    others = {"?": Outcome.UNSURE, "!": Outcome.UNUSABLE, "-": Outcome.SKIP}
    rows = dict(session.execute(select(Image.id, Image.row).where(Image.project_id == project.id)).all())
    asks = {rows[ask.image_id]: ask for ask in claiming.claim(session, project.id, user_id, 500, LEASE)}
    for row, word in words.items():
        outcome = others.get(word, Outcome.LABEL)
        given = Answer(uuid4(), project.id, asks[row].query_id, user_id, outcome, classes.get(word))
        assert labeling.answer(session, given).counted
    leases.release(session, project.id, user_id)


def make_answered(
    session: Session, said: Mapping[int, str], *, images: int | None = None, **options: object
) -> Project:
    """Make a project whose round asks about all images, answered by as many people as columns: user id to words.

    A word has one letter an image, "." for no answer.
    """
    count = images or max(len(word) for word in said.values())
    project = make_project(session, count, overlap=len(said), **options)  # type: ignore[arg-type]
    make_round(session, project, queries=count)
    for user_id, word in said.items():
        say(session, project, user_id, {row: letter for row, letter in enumerate(word) if letter != "."})
    return project


def image_at(session: Session, project_id: int, row: int) -> Image:
    """Return the image at a row, read anew."""
    found = select(Image).where(Image.project_id == project_id, Image.row == row)
    return session.scalars(found.execution_options(populate_existing=True)).one()
