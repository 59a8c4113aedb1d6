"""Imports as commands see them: from ``--from`` to a source, waiting until the worker is done, telling what came of it.

Reading and decoding is the worker's work; a command only follows the import's row.
"""

from __future__ import annotations

import time
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.cli.working import WorkerAtHand
from app.database import Database
from app.errors import BadInput, NotFound
from app.records import Import, ImportState
from app.services.importing import Source, SourceKind
from app.storage import Storage

LOOK_SECONDS = 0.1
MOST_SHOWN = 20  # broken files on the terminal; the project's page lists more
PUBLISHED = (SourceKind.DIGITS, SourceKind.MNIST, SourceKind.FASHION_MNIST, SourceKind.CIFAR10)
_OPEN = (ImportState.REQUESTED, ImportState.RUNNING)


def source_of(
    given: str,
    data: str | Path | None = None,
    pool: int | None = None,
    test: int | None = None,
    *,
    seed: int = 0,
    storage: Storage | None = None,
) -> Source:
    """Read what ``--from`` names: a published set, a folder or a .zip file.

    A set's name wins over a folder of the same name, which is written ``./digits`` then.

    Args:
        data: folder of the published sets.
        storage: where an archive is put for the worker to read; without one archives are refused.
    Raises:
        BadInput: it is none of these, or ``data`` is given for something that is no published set.
    """
    for kind in PUBLISHED:
        if given == kind.value:
            folder = None if data is None else str(Path(data).expanduser().absolute())
            return Source(kind, path=folder, pool=pool, test=test, seed=seed)
    if data is not None:
        raise BadInput("--data", f"{given!r} is no published set", f"use it with one of: {', '.join(PUBLISHED)}")
    place = Path(given).expanduser()
    if place.is_dir():
        return Source(SourceKind.FOLDER, path=str(place.resolve()), pool=pool, test=test, seed=seed)
    if place.is_file() and place.suffix.lower() == ".zip" and storage is not None:
        with place.open("rb") as archive:
            return Source(SourceKind.ZIP, blob=storage.put_stream(archive), pool=pool, test=test, seed=seed)
    remedy = f"use one of {', '.join(PUBLISHED)}, a folder{'' if storage is None else ', or a .zip file'}"
    raise BadInput(f"source {given!r}", "there is no such set, and nothing here that can be imported", remedy)


def follow_import(database: Database, import_id: int, worker: WorkerAtHand | None = None) -> Import:
    """Show how far an import is until it is done, and return it.

    Args:
        worker: is looked after while waiting.
    Raises:
        BadInput: the import failed; says why.
        NotFound: it was deleted with its project.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("waiting for the worker", total=None)
        while (found := _read(database, import_id)).state in _OPEN:
            if found.total is not None:
                done = min(found.total, found.imported + found.duplicates + found.broken)
                progress.update(bar, description="importing", total=found.total, completed=done)
            if worker is not None:
                worker.look()
            time.sleep(LOOK_SECONDS)
    if found.state is ImportState.FAILED:
        tell_broken(found)
        raise _failure(found)
    return found


def tell_import(found: Import) -> None:
    """Print what an import brought, and as a warning which files it could not read."""
    duplicates = f", {found.duplicates} were there already" if found.duplicates else ""
    typer.echo(f"Images imported: {found.imported}{duplicates}.")
    tell_broken(found)


def tell_broken(found: Import) -> None:
    """Print as a warning which files an import could not read, each with its reason."""
    if not found.broken:
        return
    typer.echo(f"querent: files not imported: {found.broken}", err=True)
    for file in found.failures[:MOST_SHOWN]:
        typer.echo(f"  {file['name']}: {file['reason']}", err=True)
    if found.broken > MOST_SHOWN:
        typer.echo(f"  and {found.broken - MOST_SHOWN} more, listed on the project's page", err=True)


def _read(database: Database, import_id: int) -> Import:
    with database.transaction() as session:
        found = session.get(Import, import_id)
        if found is None:
            raise NotFound(f"import {import_id}", "it was deleted with its project", "create the project again")
        return found


def _failure(found: Import) -> BadInput:
    """Return the error as the worker met it: its row keeps the message, whose three parts are found again."""
    subject, _, rest = (found.error or "import: it failed").rstrip(".").partition(": ")
    reason, _, remedy = rest.rpartition("; ")
    return BadInput(subject, reason or rest, remedy if reason else "see the worker's log")
