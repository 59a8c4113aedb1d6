"""``querent project`` and ``querent import``: make projects, fill them, list them, start and pause them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.options import AsJson, Home

if TYPE_CHECKING:
    from app.cli.connecting import Connected
    from app.records import ProjectState
    from app.services.importing import Source

group = typer.Typer(help="Make, list, start, pause and delete projects.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the project; its number works too.")]
From = Annotated[
    str, typer.Option("--from", help="digits, mnist, fashionmnist, cifar10, a folder or a .zip file.", metavar="SOURCE")
]
Data = Annotated[
    Path | None, typer.Option(help="Folder of mnist, fashionmnist, cifar10; default: data in Querent's home.")
]
Pool = Annotated[int | None, typer.Option(min=0, help="Most images to label; default: all.")]
Test = Annotated[
    int | None,
    typer.Option(
        min=0, help="Images held out to measure accuracy; default: the set's own, else a fifth, at most 1,000."
    ),
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait until the images are imported.")]


@group.command("create")
def create(
    *,
    name: Annotated[str, typer.Argument(help="Name of the new project.")],
    given: From,
    data: Data = None,
    pool: Pool = None,
    test: Test = None,
    seed_set: Annotated[int | None, typer.Option(help="First labels, before there is a network.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images asked about in one round.")] = None,
    budget: Annotated[int, typer.Option(help="Human labels in all.")] = 300,
    network: Annotated[str | None, typer.Option(help="Network, by its name in the catalogue.")] = None,
    posterior: Annotated[str | None, typer.Option(help="Posterior, likewise.")] = None,
    acquisition: Annotated[str | None, typer.Option(help="Acquisition, likewise.")] = None,
    selection: Annotated[str | None, typer.Option(help="Batch selection, likewise.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="Any parameter, as fitting.epochs=30; can be repeated.")
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Classes, by comma; those of the images are added.")] = None,
    overlap: Annotated[int, typer.Option(help="Answers wanted for each image, from different people.")] = 1,
    seed: Annotated[int | None, typer.Option(min=0, help="Start of every random draw.")] = None,
    description: Annotated[str, typer.Option(help="What people read about it.")] = "",
    no_wait: NoWait = False,
    home: Home = None,
) -> None:
    """Make a project and import its images; it starts as soon as they are there.

    A folder or archive has one sub-folder a class, or no sub-folders, and then its images are unlabelled.
    """
    from app.cli.connecting import connected
    from app.cli.importing import source_of
    from app.cli.recipe_options import given_recipe
    from app.recipes import parse_recipe
    from app.services import importing, projects
    from app.services.projects import NewProject
    from app.storage import Storage

    recipe = parse_recipe(
        given_recipe(
            network=network, posterior=posterior, acquisition=acquisition, selection=selection,
            batch_size=batch, seed_set=seed_set, seed=seed, assignments=assignments or [],
        )
    )  # fmt: skip
    names = tuple(part.strip() for part in (classes or "").split(",") if part.strip())
    new = NewProject(name, recipe, budget, description, overlap, names)
    with connected(home) as line:
        source = source_of(given, data, pool, test, seed=recipe.seed, storage=Storage(line.settings.storage))
        with line.database.transaction() as session:
            made = projects.create(session, new)
            requested = importing.request_import(session, made.id, source)
            session.commit()
        typer.echo(f"Project {made.name!r} is made.")
        _finish_import(line, requested.id, no_wait)


def import_images(
    *,
    name: Name,
    given: From,
    data: Data = None,
    pool: Pool = None,
    test: Test = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides which images are held out.")] = 0,
    no_wait: NoWait = False,
    home: Home = None,
) -> None:
    """Bring more images into a project; those that it has already are left out."""
    from app.cli.connecting import connected
    from app.cli.importing import source_of
    from app.services import importing, projects
    from app.storage import Storage

    with connected(home) as line:
        with line.database.transaction() as session:
            project_id = projects.find(session, name).id
        source: Source = source_of(given, data, pool, test, seed=seed, storage=Storage(line.settings.storage))
        with line.database.transaction() as session:
            requested = importing.request_import(session, project_id, source)
            session.commit()
        _finish_import(line, requested.id, no_wait)


@group.command("list")
def list_all(as_json: AsJson = False, home: Home = None) -> None:
    """List all projects, the newest first."""
    from app.cli.connecting import connected
    from app.cli.showing import tell_projects

    with connected(home) as line, line.database.transaction() as session:
        tell_projects(session, as_json)


@group.command("show")
def show(name: Name, as_json: AsJson = False, home: Home = None) -> None:
    """Tell how far a project is and how well its network does."""
    from app.cli.connecting import connected
    from app.cli.showing import tell_project
    from app.services import projects

    with connected(home) as line, line.database.transaction() as session:
        tell_project(session, projects.find(session, name).id, as_json)


@group.command("start")
def start(name: Name, home: Home = None) -> None:
    """Start a project: people are asked, and the network learns."""
    from app.records import ProjectState

    _set_state(name, home, ProjectState.RUNNING)
    typer.echo(f"Project {name!r} runs.")


@group.command("pause")
def pause(name: Name, home: Home = None) -> None:
    """Pause a project: nobody is asked and no round starts; everything is kept."""
    from app.records import ProjectState

    _set_state(name, home, ProjectState.PAUSED)
    typer.echo(f"Project {name!r} is paused.")


@group.command("delete")
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Really delete it.")] = False,
    home: Home = None,
) -> None:
    """Delete a project with its images, its answers and its whole history."""
    from app.cli.connecting import connected
    from app.errors import BadInput
    from app.services import projects

    with connected(home) as line, line.database.transaction() as session:
        found = projects.find(session, name)
        if not yes:
            lost = f"{found.image_count} images and {found.labels_used} labels would be lost with it"
            raise BadInput(f"project {found.name!r}", lost, "repeat the command with --yes to delete it")
        projects.delete(session, found.id)
        session.commit()
    typer.echo(f"Project {name!r} is deleted.")


def _set_state(name: str, home: Path | None, state: ProjectState) -> None:
    from app.cli.connecting import connected
    from app.services import projects

    with connected(home) as line, line.database.transaction() as session:
        projects.set_state(session, projects.find(session, name).id, state)
        session.commit()


def _finish_import(line: Connected, import_id: int, no_wait: bool) -> None:
    from app.cli.importing import follow_import, tell_import
    from app.cli.working import worker_at_hand

    if no_wait:
        waits = "" if line.bus.workers() else " once `querent up` runs"
        typer.echo(f"The worker imports its images{waits}.")
        return
    with worker_at_hand(line.settings, line.bus) as worker:
        tell_import(follow_import(line.database, import_id, worker))
