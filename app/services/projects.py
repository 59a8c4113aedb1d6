"""Projects: making them, their classes and the settings that an admin changes while they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.errors import BadInput, Conflict, NameTaken, NotFound
from app.outbox import EventKind, TaskName, announce, send_task
from app.recipes import Recipe
from app.records import Class, Image, LabelRule, OracleKind, Project, ProjectState, ReasonsShown, RoundReason, Split
from app.services import accounts, members, rounds
from app.services.keys import assign_keys
from app.services.locks import lock_project

LARGEST_BUDGET = 100_000_000
LARGEST_CHECK_SHARE = 0.5


@dataclass(frozen=True)
class NewProject:
    """What an admin says about a project to be made.

    Attributes:
        open_to_all: whether everybody may label it, those who come later included.
        members: names of people who may, otherwise.
        groups: groups of people who may, otherwise, whoever is in them by then.
    """

    name: str
    recipe: Recipe
    budget: int
    description: str = ""
    overlap: int = 1
    class_names: tuple[str, ...] = ()
    open_to_all: bool = True
    members: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


def create(session: Session, new: NewProject, created_by: int | None = None) -> Project:
    """Create a paused project without images.

    Raises:
        BadInput: an empty name, a budget or an overlap that is not positive, a class named twice.
        NameTaken: another project has this name.
        NotFound: there is nobody of a member's name.
    """
    name = new.name.strip()
    if not 1 <= len(name) <= 120:
        raise BadInput("name", "it must have 1 to 120 characters", "choose another")
    if session.scalar(select(Project.id).where(Project.name == name)):
        raise NameTaken(f"project {name!r}", "there is one of this name already", "choose another name")
    if not 1 <= new.overlap <= 100:
        raise BadInput("overlap", f"{new.overlap} is out of bounds", "use 1 to 100 answers an image")
    project = Project(
        name=name,
        description=new.description.strip(),
        recipe=new.recipe.as_json(),
        budget=_checked_budget(new.budget),
        overlap=new.overlap,
        open_to_all=new.open_to_all,
        created_by=created_by,
    )
    session.add(project)
    session.flush()
    add_classes(session, project, new.class_names)
    _admit(session, project, new, created_by)
    return project


def add_classes(session: Session, project: Project, names: Sequence[str]) -> list[Class]:
    """Append classes in the given order, each with a key as long as there are some (``app.services.keys``).

    Raises:
        BadInput: an empty or overlong name, or one that the project has already.
    """
    there = list(session.scalars(select(Class).where(Class.project_id == project.id).order_by(Class.position)))
    taken_names = {known.name for known in there}
    taken_keys = [known.key for known in there if known.retired_at is None and known.key is not None]
    stripped = [name.strip() for name in names]
    added = []
    for position, (name, key) in enumerate(
        zip(stripped, assign_keys(stripped, taken_keys), strict=True), start=len(there)
    ):
        if not 1 <= len(name) <= 120:
            raise BadInput("class", "a name must have 1 to 120 characters", "rename it")
        if name in taken_names:
            raise BadInput(f"class {name!r}", "it is named twice", "give every class its own name")
        taken_names.add(name)
        added.append(Class(project_id=project.id, name=name, key=key, position=position))
    session.add_all(added)
    session.flush()
    return added


def classes_of(session: Session, project_id: int) -> list[Class]:
    """Return the classes that can be given, in their order."""
    wanted = select(Class).where(Class.project_id == project_id, Class.retired_at.is_(None))
    return list(session.scalars(wanted.order_by(Class.position)))


def get(session: Session, project_id: int) -> Project:
    """Return a project; raise NotFound if there is none of that id."""
    project = session.get(Project, project_id)
    if project is None:
        raise unknown(project_id)
    return project


def unknown(project_id: int) -> NotFound:
    """Return the error of an id that no project has."""
    return NotFound(f"project {project_id}", "there is no such project", "choose one from the list of projects")


def find(session: Session, name: str) -> Project:
    """Return the project of that name or, for digits, of that id; raise NotFound if there is none."""
    project = session.scalar(select(Project).where(Project.name == name))
    if project is None and name.isdecimal():
        project = session.get(Project, int(name))
    if project is None:
        known = ", ".join(
            repr(known) for known in session.scalars(select(Project.name).order_by(Project.name).limit(20))
        )
        raise NotFound(f"project {name!r}", "there is no project of this name", f"use one of: {known or 'none yet'}")
    return project


def set_state(session: Session, project_id: int, state: ProjectState) -> Project:
    """Start or pause a project; starting asks for the first queries if there are none.

    Raises:
        Conflict: started without images or with fewer than two classes.
    """
    project = lock_project(session, project_id)
    if state is ProjectState.RUNNING:
        if not project.image_count:
            raise Conflict(f"project {project.name!r}", "it has no images yet", "import some first")
        if len(classes_of(session, project_id)) < 2:
            raise Conflict(f"project {project.name!r}", "it has fewer than two classes", "add classes first")
    project.state = state
    announce(session, project_id, EventKind.PROJECT)
    rounds.request_if_due(session, project)
    _wake_oracle(session, project)
    return project


def set_oracle(session: Session, project_id: int, kind: OracleKind, noise: float = 0.0) -> Project:
    """Let people or the simulation answer from now on.

    Args:
        noise: share of simulated answers that are wrong, in [0, 1].
    Raises:
        Conflict: the simulation is asked for and some image of the pool has no known class.
        BadInput: the noise is no share.
    """
    if not 0.0 <= noise <= 1.0:
        raise BadInput("noise", f"{noise} is not a share", "use a number from 0 to 1")
    project = lock_project(session, project_id)
    if kind is OracleKind.SIMULATED:
        unknown = session.scalar(
            select(func.count()).where(
                Image.project_id == project_id, Image.split == Split.POOL, Image.true_class_id.is_(None)
            )
        )
        if unknown:
            raise Conflict(
                "simulated oracle",
                f"{unknown} images of the pool were imported without a class, so it cannot know the answers",
                "import the images with labels (one folder a class), or let people answer",
            )
    project.oracle, project.oracle_noise = kind, noise
    announce(session, project_id, EventKind.PROJECT)
    _wake_oracle(session, project)
    return project


def set_budget(session: Session, project_id: int, budget: int) -> Project:
    """Change how many human labels may be given.

    Raises:
        BadInput: less than was given already, or out of bounds.
    """
    project = lock_project(session, project_id)
    if _checked_budget(budget) < project.labels_used:
        raise BadInput("budget", f"{project.labels_used} labels are given already", "use at least that many")
    project.budget = budget
    session.flush()
    announce(session, project_id, EventKind.PROJECT)
    rounds.request_if_due(session, project, RoundReason.MORE_TO_ASK)
    return project


def set_recipe(session: Session, project_id: int, recipe: Recipe) -> Project:
    """Learn and ask by another recipe, from the next round on."""
    project = lock_project(session, project_id)
    project.recipe = recipe.as_json()
    announce(session, project_id, EventKind.PROJECT)
    return project


def set_reasons_shown(session: Session, project_id: int, shown: ReasonsShown) -> Project:
    """Let people see why an image is asked while they label, or not."""
    project = lock_project(session, project_id)
    project.reasons_shown = shown
    announce(session, project_id, EventKind.PROJECT)
    return project


def set_label_rule(session: Session, project_id: int, rule: LabelRule, review_below: float) -> Project:
    """Make the labels of images with several answers by another rule, from the start of the next round on.

    Args:
        review_below: the certainty of the annotator model below which a reviewer decides, in [0, 1].
    Raises:
        BadInput: the rule is no rule of answers, or the certainty no chance.
    """
    if rule is LabelRule.REVIEW:
        raise BadInput("rule", "reviewers decide in any case", "use the majority or the annotator model")
    if not 0.0 <= review_below <= 1.0:
        raise BadInput("certainty", f"{review_below} is not a chance", "use a number from 0 to 1")
    project = lock_project(session, project_id)
    project.label_rule, project.review_below = rule, review_below
    announce(session, project_id, EventKind.PROJECT)
    return project


def set_checks(
    session: Session, project_id: int, *, gold_share: float, gold_feedback: bool, repeat_share: float
) -> Project:
    """Choose how much of what a person is shown checks them, from their next claim on.

    Args:
        gold_share: share of images with known answers, in [0, 0.5].
        gold_feedback: whether a person is told the known answer right after their own.
        repeat_share: share of images that the person labelled before, in [0, 0.5].
    Raises:
        BadInput: a share is out of bounds, or both together are more than half.
    """
    for field, share in (("gold", gold_share), ("repeats", repeat_share), ("checks", gold_share + repeat_share)):
        if not 0.0 <= share <= LARGEST_CHECK_SHARE:
            raise BadInput(field, f"{share:.0%} is out of bounds", "use 0 to 50% for gold and repeats together")
    project = lock_project(session, project_id)
    project.gold_share, project.gold_feedback, project.repeat_share = gold_share, gold_feedback, repeat_share
    announce(session, project_id, EventKind.PROJECT)
    return project


def delete(session: Session, project_id: int) -> None:
    """Delete a project with its whole history; blobs stay in the storage, where others may share them."""
    project = lock_project(session, project_id)
    session.delete(project)
    session.flush()
    announce(session, project_id, EventKind.PROJECT)


def _admit(session: Session, project: Project, new: NewProject, by: int | None) -> None:
    if new.open_to_all:
        return
    members.set_access(session, project.id, open_to_all=False, groups=new.groups, by=by)
    for name in new.members:
        members.add(session, project.id, accounts.find_user(session, name).id, by)


def _wake_oracle(session: Session, project: Project) -> None:
    if project.state is ProjectState.RUNNING and project.oracle is OracleKind.SIMULATED:
        send_task(session, TaskName.ANSWER_BATCH, project.id)


def _checked_budget(budget: int) -> int:
    if not 1 <= budget <= LARGEST_BUDGET:
        raise BadInput("budget", f"{budget} is out of bounds", f"use 1 to {LARGEST_BUDGET} labels")
    return budget
