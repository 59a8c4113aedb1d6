"""``querent up``: run the product until Ctrl-C."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from app.cli.options import Home


def up(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; default: QUERENT_HOST, else 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 finds a free one; default: QUERENT_PORT, else 8000.")
    ] = None,
    home: Home = None,
    no_demo: Annotated[bool, typer.Option("--no-demo", help="Do not make the project of handwritten digits.")] = False,
) -> None:
    """Run Querent on this machine: servers, web pages and worker, until Ctrl-C."""
    from app.settings import load_settings
    from app.supervisor import run

    run(load_settings(host=host, port=port, home=home, demo=False if no_demo else None), _say)


def _say(line: str) -> None:
    with suppress(BrokenPipeError):  # whoever read the output has gone; the product goes on
        typer.echo(line)
