"""``querent check``: tell whether everything that Querent needs is there."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.options import AsJson, Home

if TYPE_CHECKING:
    from app.health import Finding, Part
    from app.settings import Settings


def check(
    home: Home = None,
    only: Annotated[
        str | None,
        typer.Option(help="Parts to check, by comma: database, migrations, broker, worker, storage, device."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell whether database, broker, worker and the rest are well; exit with 1 if one is not."""
    from app.health import State
    from app.settings import load_settings

    parts = _parts(only)
    findings = _find(load_settings(home=home), parts)
    well = all(finding.state is not State.FAILURE for finding in findings)
    if as_json:
        typer.echo(json.dumps({"ok": well, "parts": {finding.part: finding.as_json() for finding in findings}}))
    else:
        _show(findings)
    raise typer.Exit(0 if well else 1)


def _parts(only: str | None) -> list[Part]:
    from app.health import Part

    if only is None:
        return list(Part)
    names = [name.strip() for name in only.split(",")]
    unknown = [name for name in names if name not in set(Part)]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)} is not one of {', '.join(Part)}", param_hint="--only")
    return [Part(name) for name in names]


def _find(settings: Settings, parts: Collection[Part]) -> list[Finding]:
    """Check with the servers that run, or with embedded ones for as long as it takes, if these parts need them."""
    from app import health
    from app.embedded import servers
    from app.errors import Unavailable

    # an empty URL stands for a server that none of these parts needs: nothing is started for it
    needed = {
        "database_url": bool(health.NEED_DATABASE & set(parts)),
        "redis_url": bool(health.NEED_REDIS & set(parts)),
    }
    spared = {field: "" for field, is_needed in needed.items() if not is_needed and getattr(settings, field) is None}
    try:
        with servers(settings.model_copy(update=spared)) as running:
            return health.check(running, parts)
    except Unavailable as error:
        lost = (health.NEED_DATABASE | health.NEED_REDIS) & set(parts)
        told = [health.Finding(part, health.State.FAILURE, error.subject + ": " + error.reason, error.remedy)
                for part in lost]  # fmt: skip
        return sorted(
            [*told, *health.check(settings, set(parts) - lost)], key=lambda it: list(health.Part).index(it.part)
        )


def _show(findings: Collection[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table

    from app.health import State

    colours = {State.OK: "green", State.WARNING: "yellow", State.FAILURE: "red"}
    console = Console()
    if not console.is_terminal:
        for finding in findings:
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            typer.echo(f"{finding.part}: {finding.state}: {finding.detail}{remedy}")
        return
    table = Table("part", "state", "detail", "remedy", box=None)
    for finding in findings:
        state = f"[{colours[finding.state]}]{finding.state}[/]"
        table.add_row(finding.part, state, finding.detail, finding.remedy)
    console.print(table)
