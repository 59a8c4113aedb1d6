"""``querent simulate``: let the simulated oracle spend a budget, through the same service as people, and watch."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.options import AsJson, Home


def simulate(
    *,
    project: Annotated[str | None, typer.Argument(help="Name of a project; its images need known classes.")] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="digits, mnist, a folder ...: a project made for this run alone.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Folder of the torchvision sets.")] = None,
    pool: Annotated[int | None, typer.Option(min=1, help="Most images in the pool.")] = None,
    test: Annotated[int | None, typer.Option(min=0, help="Images held out for testing.")] = None,
    budget: Annotated[int, typer.Option(min=1, help="Labels in all.")] = 200,
    seed_set: Annotated[int | None, typer.Option(min=1, help="First labels, before there is a network.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images asked about in one round.")] = None,
    network: Annotated[str | None, typer.Option(help="Network, by its name in the catalogue.")] = None,
    posterior: Annotated[str | None, typer.Option(help="Posterior, likewise.")] = None,
    acquisition: Annotated[str | None, typer.Option(help="Acquisition, likewise.")] = None,
    selection: Annotated[str | None, typer.Option(help="Batch selection, likewise.")] = None,
    settings_of_recipe: Annotated[
        list[str] | None, typer.Option("--set", help="Any parameter, as fitting.epochs=30; can be repeated.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Start of every random draw.")] = None,
    noise: Annotated[float, typer.Option(min=0, max=1, help="Share of wrong answers.")] = 0.0,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the project that --from made.")] = False,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Answer queries from the hidden truth until the budget is spent, and print what each round learned.

    Rounds without a network (the choice of the seed set) are not printed. Given a PROJECT, recipe options change its
    recipe, --budget is its budget from now on, and its oracle is put back as it was at the end.
    """
    from app.cli.recipe_options import given_recipe
    from app.cli.simulating import Plan, run
    from app.errors import BadInput

    if (project is None) == (source is None):
        raise BadInput("simulate", "it needs a project or a source, and not both", "give a name, or --from digits")
    recipe = given_recipe(
        network=network,
        posterior=posterior,
        acquisition=acquisition,
        selection=selection,
        batch_size=batch,
        seed_set=seed_set,
        seed=seed,
        assignments=settings_of_recipe or [],
    )
    plan = Plan(project, source, data, pool, test, budget, recipe, noise, keep)
    run(plan, home, as_json)
