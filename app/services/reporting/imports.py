"""The latest import of a project: how far it is, and what was broken."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.records import Import, ImportState
from app.services.reporting.wording import source_title


@dataclass(frozen=True)
class ImportNow:
    """The latest import and the broken files that it lists, each as (name, reason)."""

    state: ImportState
    source: str
    total: int | None
    imported: int
    duplicates: int
    broken: int
    failures: tuple[tuple[str, str], ...]
    error: str | None

    @property
    def is_open(self) -> bool:
        """Whether images are still to come."""
        return self.state in (ImportState.REQUESTED, ImportState.RUNNING)


def import_now(session: Session, project_id: int) -> ImportNow | None:
    """Return a project's latest import, or None."""
    found = session.scalar(select(Import).where(Import.project_id == project_id).order_by(Import.id.desc()).limit(1))
    if found is None:
        return None
    return ImportNow(
        state=found.state,
        source=source_title(found.source),
        total=found.total,
        imported=found.imported,
        duplicates=found.duplicates,
        broken=found.broken,
        failures=tuple((str(file["name"]), str(file["reason"])) for file in found.failures),
        error=found.error,
    )
