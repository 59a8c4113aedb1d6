"""The command ``querent``: one module a command, named here; what commands do is for services to say.

A command's module imports what it needs inside its function, so that ``querent --help`` answers at once.
"""

from __future__ import annotations

import sys

import typer

from app.cli import benchmark, check, migrate, projects, simulate, up, users
from app.errors import QuerentError

commands = typer.Typer(
    help="Label images with a network that asks about those that teach it most.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
commands.command("up")(up.up)
commands.command("check")(check.check)
commands.command("migrate")(migrate.migrate)
commands.add_typer(users.commands, name="user")
commands.add_typer(projects.group, name="project")
commands.command("import")(projects.import_images)
commands.command("simulate")(simulate.simulate)
commands.command(
    "benchmark",
    add_help_option=False,  # its arguments, --help among them, are the worker's to read
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(benchmark.benchmark)


def main() -> None:
    """Run the command line; what a person can mend is told in one line, with exit code 1."""
    try:
        commands()
    except QuerentError as error:
        typer.echo(f"querent: {error}", err=True)
        sys.exit(1)
