"""What a round does to a ledger of 60,000 entries, beside the same rows inserted into a bare table in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import text
from sqlalchemy.orm import Session

from app import embedded
from app.database import Database, upgrade
from app.records import Model
from app.services import ledger
from app.services.ledger import Entries, Proposal
from app.settings import load_settings
from tests.factories import add_image_rows, classes_of, make_project, make_round

IMAGES = 70_000
ENTRIES = 60_000
CHANGED = 6_000


def figures() -> dict[str, float]:
    """Return seconds."""
    with TemporaryDirectory() as folder, embedded.servers(load_settings(home=Path(folder) / "home")) as settings:
        upgrade(str(settings.database_url))
        database = Database(str(settings.database_url))
        with database.transaction() as session:
            found = _measure(session)
            session.rollback()
        database.close()
        return found


def _measure(session: Session) -> dict[str, float]:
    project = make_project(session, images=1)
    add_image_rows(session, project, IMAGES - 1)
    class_ids = [known.id for known in classes_of(session, project)]
    made = make_round(session, project, queries=1)
    model = Model(project_id=project.id, round_id=made.id, weights_hash="0" * 64, network={}, classes=class_ids)
    session.add(model)
    session.flush()
    rows = range(1, ENTRIES + 1)
    first = [class_ids[row % 3] for row in rows]
    other = [class_ids[(row + (row < CHANGED)) % 3] for row in rows]
    confidences = [0.5 + row / (2 * IMAGES) for row in rows]

    def reconciled(said: list[int]) -> Callable[[], object]:
        proposal = Proposal("threshold", Entries(rows, said, confidences))
        return lambda: ledger.reconcile(session, project, made.number, model.id, proposal)

    return {
        "bare_insert_60000_s": _timed(lambda: _insert_bare(session, rows, first, confidences)),
        "ledger_write_60000_s": _timed(reconciled(first)),
        "ledger_unchanged_60000_s": _timed(reconciled(first)),
        "ledger_change_6000_s": _timed(reconciled(other)),
        "ledger_read_60000_s": _timed(lambda: ledger.read_standing(session, project.id, class_ids)),
    }


def _insert_bare(session: Session, rows: range, class_ids: list[int], confidences: list[float]) -> None:
    session.execute(text("CREATE TABLE bare (image_id bigint, class_id bigint, confidence double precision)"))
    unnested = "SELECT * FROM unnest(cast(:a AS bigint[]), cast(:b AS bigint[]), cast(:c AS double precision[]))"
    given = {"a": list(rows), "b": class_ids, "c": confidences}
    session.execute(text(f"INSERT INTO bare {unnested}"), given)


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
