"""Members: who may see and label a project, by name, by group or because it is open to all.

Admins and the simulated oracle may always. For annotators a decision about the person comes first; without one the
project's switch ``open_to_all`` and its groups decide, so that newcomers follow by themselves. Nobody's answers are
touched: losing a project gives back the images one holds, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from sqlalchemy import (
    ColumnElement,
    Executable,
    Select,
    and_,
    any_,
    bindparam,
    exists,
    func,
    literal,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.errors import BadInput, NotAMember, NotFound
from app.outbox import EventKind, announce
from app.records import Image, Lease, Membership, Project, Role, Standing, User
from app.services.leases import give_back
from app.services.locks import lock_claims, lock_project

LONGEST_GROUP = 80
MOST_GROUPS = 100


@dataclass(frozen=True)
class Access:
    """What a person may do with a project.

    Attributes:
        user: the person, loaded on the way; None if there is no such person or project.
        is_member: whether they may see and label it now.
        standing: what was decided about them by name.
        content_hash: of the image that was asked for, if it was one.
    """

    user: User | None
    is_member: bool
    standing: Standing | None
    content_hash: str | None = None

    def require(self, kind: str, of_id: int, *, was_enough: bool = False) -> None:
        """Raise NotAMember or NotFound as ``check`` does; ``kind`` and ``of_id`` say what was asked for."""
        if self.is_member or (was_enough and self.standing is not None):
            return
        if self.standing is None:
            raise NotFound(f"{kind} {of_id}", f"there is no such {kind}", "choose one from the list of projects")
        reason = "you are no longer a member of its project"
        raise NotAMember(f"{kind} {of_id}", reason, "ask an admin to add you again")


def may_see(user_id: int) -> ColumnElement[bool]:
    """Return the condition on ``Project`` that a person may see it."""
    standing = (
        select(Membership.standing)
        .where(Membership.project_id == Project.id, Membership.user_id == user_id)
        .correlate(Project)
        .scalar_subquery()
    )
    return exists().where(User.id == user_id, is_in(standing))


def is_in(standing: ColumnElement[Standing] | None = None) -> ColumnElement[bool]:
    """Return the condition on ``User`` and ``Project`` that the one may see and label the other.

    Args:
        standing: what was decided about the person; by default that of ``Membership``, joined as ``decided`` says.
            It is NULL where nothing was decided.
    """
    decided_as: ColumnElement[Standing] = Membership.standing.expression if standing is None else standing
    return or_(
        User.role != Role.ANNOTATOR,
        decided_as == Standing.MEMBER,
        and_(decided_as.is_distinct_from(Standing.REMOVED), _is_let_in()),
    )


def decided() -> ColumnElement[bool]:
    """Return the condition that joins ``Membership`` to ``Project`` and ``User``."""
    return and_(Membership.project_id == Project.id, Membership.user_id == User.id)


def access_to_project(session: Session, project_id: int, user_id: int) -> Access:
    """Return whether a person may label a project, or ever might."""
    return _read(session, _to_project(), project_id, user_id)


def access_to_image(session: Session, image_id: int, user_id: int) -> Access:
    """Return whether a person may see an image: whether they may label its project, or ever might."""
    return _read(session, _to_image(), image_id, user_id)


def check(session: Session, project_id: int, user_id: int, *, was_enough: bool = False) -> bool:
    """Make sure that a person may see a project; return whether they still may.

    Args:
        was_enough: whether it suffices to have been a member, as for answers that come late.
    Raises:
        NotAMember: not any more.
        NotFound: never, which a stranger cannot tell from there being no such project.
    """
    access = access_to_project(session, project_id, user_id)
    access.require("project", project_id, was_enough=was_enough)
    return access.is_member


def add(session: Session, project_id: int, user_id: int, by: int | None = None) -> None:
    """Let a person in by name."""
    lock_project(session, project_id)
    _decide(session, project_id, user_id, Standing.MEMBER, by)
    announce(session, project_id, EventKind.PROJECT)


def remove(session: Session, project_id: int, user_id: int, by: int | None = None) -> None:
    """Shut a person out and give back at once what they hold; what they answered stays."""
    lock_claims(session, project_id, user_id)
    lock_project(session, project_id)
    _decide(session, project_id, user_id, Standing.REMOVED, by)
    _return_lost(session, project_id)


def set_access(
    session: Session, project_id: int, *, open_to_all: bool, groups: Sequence[str], by: int | None = None
) -> Project:
    """Open a project to everybody, newcomers included, or to groups of people beside those who were named.

    A claim that runs meanwhile may still hand out images to somebody who is shut out; they come back when their lease
    runs out, since such a person can neither renew it nor answer.

    Raises:
        BadInput: a group's name is too long, or there are too many groups.
    """
    named = sorted({name for given in groups if (name := group_name(given)) is not None})
    if len(named) > MOST_GROUPS:
        raise BadInput("groups", f"these are {len(named)}", f"name at most {MOST_GROUPS}")
    project = lock_project(session, project_id)
    _remember(session, by, Project.id == project_id)
    project.open_to_all, project.member_groups = open_to_all, named
    session.flush()
    _return_lost(session, project_id)
    return project


def set_group(session: Session, user: User, group: str, by: int | None = None) -> None:
    """Put a person into a group, or into none; they lose and gain the projects that are open to it.

    Raises:
        BadInput: the name is too long.
    """
    name = group_name(group)
    held = select(Lease.project_id).where(Lease.user_id == user.id).distinct()
    project_ids = sorted(session.scalars(held))
    for project_id in project_ids:
        lock_claims(session, project_id, user.id)
    for project_id in project_ids:
        lock_project(session, project_id)
    if user.group_name is not None:
        _remember(session, by, User.id == user.id, User.group_name == any_(Project.member_groups))
    user.group_name = name
    session.flush()
    for project_id in project_ids:
        _return_lost(session, project_id)


def return_all(session: Session, user_id: int) -> None:
    """Give back what a person holds in any project, since they sign out or are shut out, and tell waiting pages."""
    held = select(Lease.project_id).where(Lease.user_id == user_id).distinct()
    project_ids = sorted(session.scalars(held))
    for project_id in project_ids:
        lock_claims(session, project_id, user_id)
    for project_id in project_ids:
        project = lock_project(session, project_id)
        own = select(Lease.id).where(Lease.project_id == project_id, Lease.user_id == user_id).order_by(Lease.id)
        give_back(session, project, session.scalars(own).all())
        announce(session, project_id, EventKind.PROJECT)


def group_name(given: str) -> str | None:
    """Return a group's name as it is kept, lower case with single spaces; None for none.

    Raises:
        BadInput: it is too long.
    """
    name = " ".join(given.lower().split())
    if len(name) > LONGEST_GROUP:
        raise BadInput("group", f"its name has more than {LONGEST_GROUP} characters", "shorten it")
    return name or None


def known_groups(session: Session) -> list[str]:
    """Return the groups that people are in, by name, as many as a project may have."""
    wanted = select(User.group_name).where(User.group_name.is_not(None)).distinct().order_by(User.group_name)
    return [name for name in session.scalars(wanted.limit(MOST_GROUPS)) if name is not None]


def _is_let_in() -> ColumnElement[bool]:
    return or_(Project.open_to_all, User.group_name == any_(Project.member_groups))


@cache
def _to_project() -> Select[User, bool, Standing]:
    return _access().where(Project.id == bindparam("of_id"))


@cache
def _to_image() -> Select[User, bool, Standing, str]:
    of_image = _access().join(Image, Image.project_id == Project.id).where(Image.id == bindparam("of_id"))
    return of_image.add_columns(Image.content_hash)


def _access() -> Select[User, bool, Standing]:
    return (
        select(User, is_in(), Membership.standing)
        .select_from(Project)
        .join(User, User.id == bindparam("user_id"))
        .join(Membership, decided(), isouter=True)
    )


def _read(session: Session, wanted: Executable, of_id: int, user_id: int) -> Access:
    found = session.execute(wanted, {"of_id": of_id, "user_id": user_id}).first()
    return Access(None, False, None) if found is None else Access(found[0], bool(found[1]), *found[2:])


def _decide(session: Session, project_id: int, user_id: int, standing: Standing, by: int | None) -> None:
    row = {"project_id": project_id, "user_id": user_id, "standing": standing, "set_by": by}
    change = {"standing": standing, "set_by": by, "created_at": func.now()}
    session.execute(insert(Membership).values(row).on_conflict_do_update(None, ["project_id", "user_id"], set_=change))


def _remember(session: Session, by: int | None, *where: ColumnElement[bool]) -> None:
    """Note who is let in by the switch or a group, so that their late answers are known from a stranger's."""
    known = exists().where(decided())
    let_in = (
        select(Project.id, User.id, literal(Standing.FORMER.value), literal(by, Membership.set_by.type))
        .join(User, true())
        .where(User.role == Role.ANNOTATOR, _is_let_in(), ~known, *where)
    )
    columns = ["project_id", "user_id", "standing", "set_by"]
    session.execute(insert(Membership).from_select(columns, let_in).on_conflict_do_nothing())


def _return_lost(session: Session, project_id: int) -> None:
    """Give back what people hold who may not label a locked project, and let waiting pages ask again."""
    lost = (
        select(Lease.id)
        .join(Project, Project.id == Lease.project_id)
        .join(User, User.id == Lease.user_id)
        .join(Membership, decided(), isouter=True)
        .where(Lease.project_id == project_id, is_in().is_not(True))
        .order_by(Lease.id)
    )
    give_back(session, session.get_one(Project, project_id), session.scalars(lost).all())
    announce(session, project_id, EventKind.PROJECT)
