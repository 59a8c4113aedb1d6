"""Projects on the terminal: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.orm import Session

from app.services.reporting.ledger_summary import LedgerSummary
from app.services.reporting.listing import ProjectCard, list_projects
from app.services.reporting.overview import Overview, project_overview


def tell_projects(session: Session, as_json: bool) -> None:
    """Print all projects, the newest first."""
    cards = list(_cards(session))
    if as_json:
        typer.echo(json.dumps([_card_json(card) for card in cards]))
        return
    if not cards:
        typer.echo("There are no projects yet; make one with `querent project create NAME --from digits`.")
        return
    table = Table("project", "state", "oracle", "images", "labels", "test accuracy", box=None)
    for card in cards:
        state = "importing" if card.is_importing else card.state.value
        accuracy = _accuracy(card.accuracy, card.accuracy_low, card.accuracy_high)
        labels = f"{card.labels_used} of {card.budget}"
        table.add_row(card.name, state, card.oracle.value, str(card.image_count), labels, accuracy)
    Console(soft_wrap=True).print(table)


def tell_project(session: Session, project_id: int, as_json: bool) -> None:
    """Print one project: its images, labels, classes, recipe, and what its latest round reached."""
    found = project_overview(session, project_id)
    if as_json:
        typer.echo(json.dumps(_overview_json(found)))
        return
    for title, text in _lines(found):
        typer.echo(f"{title:<14} {text}")


def _cards(session: Session) -> Iterator[ProjectCard]:
    before: int | None = None
    while True:
        page = list_projects(session, before)
        yield from page.cards
        before = page.next_before
        if before is None:
            return


def _lines(found: Overview) -> Iterator[tuple[str, str]]:
    yield "project", f"{found.name} (number {found.id})"
    if found.description:
        yield "description", found.description
    yield "state", f"{found.state.value}, answered by: {found.oracle.value}"
    yield "images", f"{found.pool_size} in the pool, {found.test_size} held out for testing"
    yield "labels", f"{found.labels_used} of {found.budget}"
    yield "classes", ", ".join(f"{known.name} ({known.labels})" for known in found.classes) or "none"
    latest = found.latest
    if latest is not None:
        accuracy = _accuracy(latest.accuracy, latest.low, latest.high)
        yield "test accuracy", f"{accuracy} after round {latest.round_number}, with {latest.labels} labels"
    if found.ledger.is_shown:
        yield "automatic", _ledger(found.ledger)
    if found.round_now is not None and (found.round_now.is_open or found.round_now.error):
        told = f": {found.round_now.error}" if found.round_now.error else ""
        yield "round", f"{found.round_now.number} {found.round_now.state.value}{told}"
    if found.import_now is not None:
        now = found.import_now
        told = f": {now.error}" if now.error else f", {now.imported} images, {now.broken} broken files"
        yield "import", f"{now.state.value}{told}"
    for line in found.recipe:
        yield line.title.lower(), ", ".join((line.choice, *line.changed))


def _accuracy(accuracy: float | None, low: float | None, high: float | None) -> str:
    if accuracy is None or low is None or high is None:
        return "not measured"
    return f"{accuracy:.1%} ({low:.1%} to {high:.1%})"


def _ledger(ledger: LedgerSummary) -> str:
    told = f"{ledger.standing} labels of models stand"
    if ledger.last is not None and ledger.last.threshold is not None:
        told += f", threshold {ledger.last.threshold:.1%}"
    elif ledger.last is not None and ledger.last.why is not None:
        told += f" ({ledger.last.why})"
    drawn, picked = ledger.drawn, ledger.picked
    if drawn.count:
        precision = _accuracy(drawn.share, drawn.low, drawn.high)
        told += f"; precision {precision}, {drawn.right} of {drawn.count} drawn uniformly"
    if picked.count:
        told += f"; {picked.right} of {picked.count} right among those that were chosen"
    return told


def _card_json(card: ProjectCard) -> dict[str, Any]:
    return {
        "id": card.id,
        "name": card.name,
        "state": card.state.value,
        "oracle": card.oracle.value,
        "images": card.image_count,
        "labels": card.labels_used,
        "budget": card.budget,
        "importing": card.is_importing,
        "test_accuracy": card.accuracy,
        "test_accuracy_low": card.accuracy_low,
        "test_accuracy_high": card.accuracy_high,
    }


def _overview_json(found: Overview) -> dict[str, Any]:
    latest, now = found.latest, found.import_now
    return {
        "id": found.id,
        "name": found.name,
        "description": found.description,
        "state": found.state.value,
        "oracle": found.oracle.value,
        "budget": found.budget,
        "overlap": found.overlap,
        "labels": found.labels_used,
        "pool_images": found.pool_size,
        "test_images": found.test_size,
        "classes": [{"name": known.name, "key": known.key, "labels": known.labels} for known in found.classes],
        "test_accuracy": None if latest is None else latest.accuracy,
        "test_accuracy_low": None if latest is None else latest.low,
        "test_accuracy_high": None if latest is None else latest.high,
        "ledger": _ledger_json(found.ledger),
        "import": None
        if now is None
        else {
            "state": now.state.value,
            "total": now.total,
            "imported": now.imported,
            "duplicates": now.duplicates,
            "broken": now.broken,
            "error": now.error,
            "failures": [{"name": name, "reason": reason} for name, reason in now.failures],
        },
    }


def _ledger_json(ledger: LedgerSummary) -> dict[str, Any]:
    last, drawn, picked = ledger.last, ledger.drawn, ledger.picked
    return {
        "standing": ledger.standing,
        "added": 0 if last is None else last.added,
        "withdrawn": 0 if last is None else last.withdrawn,
        "threshold": None if last is None else last.threshold,
        "reason": None if last is None else last.why,
        "drawn": drawn.count,
        "drawn_right": drawn.right,
        "precision": drawn.share,
        "precision_low": drawn.low,
        "precision_high": drawn.high,
        "picked": picked.count,
        "picked_right": picked.right,
    }
