"""``querent user``: who can sign in. Nobody's password passes through here: a one-time link lets each choose one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.options import AsJson, Home

if TYPE_CHECKING:
    from app.records import User
    from app.settings import Settings

commands = typer.Typer(help="Make and list people, and hand out one-time links.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name by which the person signs in.")]


@commands.command("create")
def create(
    name: Name,
    role: Annotated[str, typer.Option(help="annotator or admin.")] = "annotator",
    group: Annotated[str, typer.Option(help="Group of people, such as experts; projects can be open to it.")] = "",
    home: Home = None,
) -> None:
    """Make a person and print the link with which they sign in once and choose a password."""
    from app.cli.connecting import connected
    from app.errors import BadInput
    from app.records import Role
    from app.services import accounts, members

    if role not in {Role.ANNOTATOR, Role.ADMIN}:
        raise BadInput(f"role {role!r}", "there is no such role", "use annotator or admin")
    with connected(home) as line, line.database.transaction() as session:
        user = accounts.create_user(session, name, Role(role))
        members.set_group(session, user, group)
        token = accounts.issue_link(session, user, line.settings.link_hours)
        session.commit()
        _tell_link(line.settings, user, token)


@commands.command("link")
def link(name: Name, home: Home = None) -> None:
    """Print a new one-time link for a person; earlier ones stop working."""
    from app.cli.connecting import connected
    from app.services import accounts

    with connected(home) as line, line.database.transaction() as session:
        user = accounts.find_user(session, name)
        token = accounts.issue_link(session, user, line.settings.link_hours)
        session.commit()
        _tell_link(line.settings, user, token)


@commands.command("group")
def set_group(
    name: Name,
    group: Annotated[str, typer.Argument(help="The group; left out, the person is in none.")] = "",
    home: Home = None,
) -> None:
    """Put a person into a group, or into none; projects that are open to it follow."""
    from app.cli.connecting import connected
    from app.services import accounts, members

    with connected(home) as line, line.database.transaction() as session:
        user = accounts.find_user(session, name)
        members.set_group(session, user, group)
        session.commit()
        where = f"the group {user.group_name!r}" if user.group_name else "no group"
        typer.echo(f"{user.name} is in {where}.")


@commands.command("list")
def list_all(
    group: Annotated[str, typer.Option(help="Only people of this group.")] = "",
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """List people."""
    import json

    from app.cli.connecting import connected
    from app.services import accounts, members

    with connected(home) as line, line.database.transaction() as session:
        wanted = members.group_name(group)
        users = [user for user in accounts.list_users(session) if wanted in {None, user.group_name}]
    if as_json:
        told = [
            {"name": user.name, "role": user.role.value, "group": user.group_name, "state": _state(user)}
            for user in users
        ]
        typer.echo(json.dumps(told))
    elif not users and wanted:
        typer.echo(f"There is nobody in the group {wanted!r}.")
    elif not users:
        typer.echo("There is nobody yet; `querent up` makes the first admin.")
    else:
        for user in users:
            typer.echo(f"{user.name:<24} {user.role.value:<10} {user.group_name or '':<16} {_state(user)}".rstrip())


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
