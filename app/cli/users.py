"""``querent user``: who can sign in. Nobody's password passes through here: a one-time link lets each choose one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.options import AsJson, Home

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.records import User
    from app.settings import Settings

group = typer.Typer(help="Make and list people, and hand out one-time links.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name by which the person signs in.")]


@group.command("create")
def create(
    name: Name,
    role: Annotated[str, typer.Option(help="annotator or admin.")] = "annotator",
    home: Home = None,
) -> None:
    """Make a person and print the link with which they sign in once and choose a password."""
    from app.cli.connecting import connected
    from app.errors import BadInput
    from app.records import Role
    from app.services import accounts

    if role not in {Role.ANNOTATOR, Role.ADMIN}:
        raise BadInput(f"role {role!r}", "there is no such role", "use annotator or admin")
    with connected(home) as line, line.database.transaction() as session:
        user = accounts.create_user(session, name, Role(role))
        token = accounts.issue_link(session, user, line.settings.link_hours)
        session.commit()
        _tell_link(line.settings, user, token)


@group.command("link")
def link(name: Name, home: Home = None) -> None:
    """Print a new one-time link for a person; earlier ones stop working."""
    from app.cli.connecting import connected
    from app.services import accounts

    with connected(home) as line, line.database.transaction() as session:
        user = _find(session, name)
        token = accounts.issue_link(session, user, line.settings.link_hours)
        session.commit()
        _tell_link(line.settings, user, token)


@group.command("list")
def list_all(as_json: AsJson = False, home: Home = None) -> None:
    """List all people."""
    import json

    from app.cli.connecting import connected
    from app.services import accounts

    with connected(home) as line, line.database.transaction() as session:
        users = accounts.list_users(session)
    if as_json:
        told = [{"name": user.name, "role": user.role.value, "state": _state(user)} for user in users]
        typer.echo(json.dumps(told))
    elif not users:
        typer.echo("There is nobody yet; `querent up` makes the first admin.")
    else:
        for user in users:
            typer.echo(f"{user.name:<24} {user.role.value:<10} {_state(user)}")


def _find(session: Session, name: str) -> User:
    from app.errors import NotFound
    from app.services import accounts

    users = accounts.list_users(session)
    for user in users:
        if user.name == name.strip().lower():
            return user
    known = ", ".join(repr(user.name) for user in users[:20])
    raise NotFound(f"user {name!r}", "there is nobody of this name", f"use one of: {known or 'none yet'}")


def _tell_link(settings: Settings, user: User, token: str) -> None:
    from app.supervisor import running_url

    url = running_url(settings.home)
    later = "" if url else ", once `querent up` runs"
    url = url or f"http://{settings.host}:{settings.port}"
    typer.echo(f"{user.name} ({user.role.value}) signs in once with this link{later}:")
    typer.echo(f"{url}/sign-in/{token}")
    typer.echo(f"It works for {settings.link_hours} hours.")


def _state(user: User) -> str:
    if user.disabled_at is not None:
        return "shut out"
    return "link not used yet" if user.password_hash is None else "signs in"
