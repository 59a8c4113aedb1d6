"""Makes what tests need, through services and records: people, projects with images, rounds with queries."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from uuid import uuid4

from PIL import Image as Picture
from sqlalchemy import func, insert, literal, select
from sqlalchemy.orm import Session

from app.recipes import parse_recipe
from app.records import (
    Class,
    Image,
    Model,
    Project,
    ProjectState,
    Query,
    QuerySource,
    Role,
    Round,
    RoundReason,
    RoundState,
    Split,
    User,
)
from app.services import accounts, ledger, projects
from app.services.ledger import Change, Entries, Proposal
from app.services.projects import NewProject
from app.storage import Storage

PASSWORD = "correct horse"
_numbers = itertools.count(1)


def make_user(
    session: Session, name: str | None = None, role: Role = Role.ANNOTATOR, password: str | None = None
) -> User:
    """Make a person; without a password nobody can sign in as them, which is faster."""
    return accounts.create_user(session, name or f"person {uuid4().hex[:8]}", role, password)


def picture(number: int, side: int = 8) -> bytes:
    """Return a grey PNG that differs from every other number's."""
    image = Picture.new("L", (side, side))
    image.putdata(
        [(number * 7919 + 104729 * (number // 251) + pixel * (number % 13 + 1)) % 256 for pixel in range(side**2)]
    )
    image.putpixel((0, 0), number % 256)
    image.putpixel((1, 0), number // 256 % 256)
    image.putpixel((2, 0), number // 65536 % 256)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def make_project(
    session: Session,
    images: int = 30,
    classes: Sequence[str] = ("0", "1", "2"),
    *,
    budget: int = 1000,
    overlap: int = 1,
    state: ProjectState = ProjectState.RUNNING,
    storage: Storage | None = None,
    recipe: dict[str, object] | None = None,
    test_images: int = 0,
    side: int = 8,
) -> Project:
    """Make a project; image i truly has class i modulo the number of classes. Blobs exist if a storage is given."""
    new = NewProject(
        f"project {uuid4().hex[:10]}", parse_recipe(recipe), budget, overlap=overlap, class_names=tuple(classes)
    )
    project = projects.create(session, new)
    known = classes_of(session, project)
    for row in range(images):
        number = next(_numbers)
        session.add(
            Image(
                project_id=project.id,
                row=row,
                content_hash=storage.put(picture(number, side)) if storage else f"{uuid4().hex}{uuid4().hex}",
                name=f"image-{row}.png",
                width=side,
                height=side,
                grey=True,
                split=Split.TEST if row >= images - test_images else Split.POOL,
                true_class_id=known[row % len(known)].id if known else None,
            )
        )
    project.image_count = images
    project.state = state
    session.flush()
    return project


def add_image_rows(session: Session, project: Project, count: int) -> None:
    """Add many images to a project's pool, as rows that the database makes; they have no blobs."""
    first = project.image_count
    numbers = func.generate_series(first, first + count - 1).column_valued("row")
    names = ["project_id", "row", "content_hash", "name", "width", "height", "grey", "split"]
    values = select(
        literal(project.id),
        numbers,
        func.lpad(numbers.cast(Image.name.type), 64, "0"),
        literal(""),
        literal(8),
        literal(8),
        literal(True),
        literal(Split.POOL, Image.split.type),
    )
    session.execute(insert(Image).from_select(names, values))
    project.image_count = first + count
    session.flush()


def classes_of(session: Session, project: Project) -> list[Class]:
    """Return a project's classes in order."""
    return list(session.scalars(select(Class).where(Class.project_id == project.id).order_by(Class.position)))


def make_round(session: Session, project: Project, queries: int = 20, reserve: int = 0, first_row: int = 0) -> Round:
    """Make a finished round that asks about the images from ``first_row`` on, ranked by row."""
    number = session.scalar(select(func.count()).where(Round.project_id == project.id)) or 0
    made = Round(
        project_id=project.id,
        number=number,
        state=RoundState.DONE,
        reason=RoundReason.FIRST_QUERIES,
        labels=0,
        last_annotation_id=0,
        recipe=project.recipe,
        started_at=func.now(),
        finished_at=func.now(),
    )
    session.add(made)
    session.flush()
    rows = range(first_row, first_row + queries + reserve)
    images = session.scalars(
        select(Image).where(Image.project_id == project.id, Image.row.in_(rows)).order_by(Image.row)
    ).all()
    assert len(images) == queries + reserve, "the project has too few images for this round"
    for rank, image in enumerate(images, start=1):
        session.add(
            Query(
                project_id=project.id,
                round_id=made.id,
                image_id=image.id,
                rank=rank,
                source=QuerySource.ACQUISITION,
                reserve=rank > queries,
                score=1.0 / rank,
                parts={"acquisition": "entropy"},
                wanted_answers=project.overlap,
                open_answers=project.overlap,
            )
        )
    session.flush()
    return made


def predict(session: Session, project: Project, made: Round, wrong: Sequence[int] = ()) -> None:
    """Let a round's model have believed every image to be of its true class, or, for rows in ``wrong``, of the next.

    It is less sure of what is wrong, and of what comes first in the ranking, as strategies have it.
    """
    classes = [known.id for known in classes_of(session, project)]
    session.add(Model(project_id=project.id, round_id=made.id, weights_hash="0" * 64, network={}, classes=classes))
    asked = select(Query, Image).join(Image, Image.id == Query.image_id).where(Query.round_id == made.id)
    for query, image in session.execute(asked):
        query.predicted_class_id = classes[(image.row + (image.row in wrong)) % len(classes)]
        query.confidence = (0.4 if image.row in wrong else 0.5) + query.rank / 10_000
    session.flush()


def make_clusters(session: Session, made: Round, count: int) -> None:
    """Deal a round's queries out to so many clusters, by rank and in turns."""
    for query in session.scalars(select(Query).where(Query.round_id == made.id)):
        query.cluster = (query.rank - 1) % count + 1
    session.flush()


def make_entries(
    session: Session,
    project: Project,
    made: Round,
    said: dict[int, int],
    *,
    confidence: float = 0.9,
    rule: str = "threshold",
) -> Change:
    """Let a round's model label rows, given as rows with the position of their class; all that shall stand."""
    model = session.scalar(select(Model).where(Model.round_id == made.id))
    classes = [known.id for known in classes_of(session, project)]
    if model is None:
        model = Model(project_id=project.id, round_id=made.id, weights_hash="0" * 64, network={}, classes=classes)
        session.add(model)
        session.flush()
    rows = sorted(said)
    entries = Entries(rows, [classes[said[row]] for row in rows], [min(1.0, confidence + row / 1000) for row in rows])
    return ledger.reconcile(session, project, made.number, model.id, Proposal(rule, entries))
