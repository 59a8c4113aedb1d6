"""``querent migrate``: bring the database to this release, once, before several processes start on it."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.options import Home


def migrate(
    address: Annotated[
        str | None, typer.Option(help="Where people open Querent; the link begins with it. Default: this machine.")
    ] = None,
    no_demo: Annotated[bool, typer.Option("--no-demo", help="Do not make the project of handwritten digits.")] = False,
    home: Home = None,
) -> None:
    """Make or change the tables; on first start also the admin, the demo, and a one-time link to sign in with."""
    from app.embedded import servers
    from app.errors import Unavailable
    from app.health import State, check_database
    from app.settings import load_settings
    from app.starting import prepare

    with servers(load_settings(home=home, demo=False if no_demo else None)) as settings:
        database = check_database(settings)
        if database.state is State.FAILURE:
            raise Unavailable(database.part, database.detail, database.remedy)
        link = prepare(settings)
    typer.echo("The tables are those of this release.")
    if link is not None:
        typer.echo(f"Sign in for the first time: {(address or f'http://127.0.0.1:{settings.port}').rstrip('/')}{link}")
