"""People: who can sign in, adding them, handing out one-time links, shutting them out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from app.errors import BadInput, NameTaken, QuerentError
from app.pages.paths import UserId
from app.pages.shell import AdminOnly, Wired, render
from app.records import Role
from app.services import accounts, members

router = APIRouter()

Group = Annotated[str, Form(max_length=1000)]

ROLES = (Role.ANNOTATOR, Role.ADMIN)


@dataclass(frozen=True)
class PersonRow:
    """A line of the list."""

    id: int
    name: str
    role: Role
    group: str
    has_password: bool
    disabled_at: datetime | None
    created_at: datetime


@dataclass(frozen=True)
class HandedLink:
    """A one-time link to be shown once."""

    name: str
    address: str
    hours: int


@router.get("/people")
def people_page(request: Request, wired: Wired, _admin: AdminOnly) -> Response:
    """List everybody who can sign in."""
    with wired.database.transaction() as session:
        people = _rows(session)
    return _page(request, people)


@router.post("/people")
def add_person(
    request: Request,
    wired: Wired,
    admin: AdminOnly,
    *,
    name: Annotated[str, Form()] = "",
    role: Annotated[str, Form()] = "",
    group: Group = "",
) -> Response:
    """Add a person and show the link that signs them in for the first time."""
    with wired.database.transaction() as session:
        try:
            members.group_name(group)
            user = accounts.create_user(session, name, _role(role))
            members.set_group(session, user, group, admin.id)
        except (BadInput, NameTaken) as error:
            return _page(request, _rows(session), status=422, name=name, group=group, error=error)
        token = accounts.issue_link(session, user, wired.settings.link_hours)
        session.commit()
        people = _rows(session)
    link = _link(request, user.name, token, wired.settings.link_hours)
    return _page(request, people, link=link, status=201)


@router.post("/people/{user_id}/link")
def new_link(request: Request, wired: Wired, _admin: AdminOnly, user_id: UserId) -> Response:
    """Show a new one-time link for a person; earlier ones stop working."""
    with wired.database.transaction() as session:
        user = accounts.get_user(session, user_id)
        token = accounts.issue_link(session, user, wired.settings.link_hours)
        session.commit()
        people = _rows(session)
    return _page(request, people, link=_link(request, user.name, token, wired.settings.link_hours))


@router.post("/people/{user_id}/disable")
def disable(wired: Wired, _admin: AdminOnly, user_id: UserId) -> Response:
    """Shut a person out and end their sessions; their annotations stay."""
    return _set_disabled(wired, user_id, True)


@router.post("/people/{user_id}/enable")
def enable(wired: Wired, _admin: AdminOnly, user_id: UserId) -> Response:
    """Let a person in again."""
    return _set_disabled(wired, user_id, False)


@router.post("/people/{user_id}/group")
def change_group(wired: Wired, admin: AdminOnly, user_id: UserId, group: Group = "") -> Response:
    """Put a person into a group, or into none; projects that are open to it follow."""
    with wired.database.transaction() as session:
        members.set_group(session, accounts.get_user(session, user_id), group, admin.id)
        session.commit()
    return RedirectResponse("/people", status_code=303)


def _set_disabled(wired: Wired, user_id: int, disabled: bool) -> Response:
    with wired.database.transaction() as session:
        accounts.set_disabled(session, accounts.get_user(session, user_id), disabled)
        session.commit()
    return RedirectResponse("/people", status_code=303)


def _rows(session: Session) -> list[PersonRow]:
    return [
        PersonRow(
            user.id,
            user.name,
            user.role,
            user.group_name or "",
            has_password=user.password_hash is not None,
            disabled_at=user.disabled_at,
            created_at=user.created_at,
        )
        for user in accounts.list_users(session)
    ]


def _role(given: str) -> Role:
    if given not in set(ROLES):
        raise BadInput("role", f"{given!r} is none", "choose annotator or admin")
    return Role(given)


def _page(
    request: Request,
    people: list[PersonRow],
    *,
    link: HandedLink | None = None,
    status: int = 200,
    name: str = "",
    group: str = "",
    error: QuerentError | None = None,
) -> Response:
    groups = sorted({row.group for row in people if row.group})
    return render(
        request,
        "people/page.html",
        status,
        people=people,
        link=link,
        name=name,
        group=group,
        groups=groups,
        error=error,
        roles=ROLES,
    )


def _link(request: Request, name: str, token: str, hours: int) -> HandedLink:
    return HandedLink(name, f"{str(request.base_url).rstrip('/')}/sign-in/{token}", hours)
