"""What one table of a report is, and how it is written to a file."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from worker.benchmark.statistics import Interval

Cell = str | int | float | None
Row = tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """One table: ``name`` is its file's; cells hold plain numbers, shares from 0 to 1."""

    name: str
    title: str
    explanation: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def write(self, folder: Path) -> None:
        """Write the table as a CSV file; what is not known is left empty."""
        with (folder / f"{self.name}.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self.columns)
            writer.writerows(self.rows)


def bounds(found: Interval | None) -> tuple[float | None, float | None, float | None]:
    """Return a value with its interval as three cells; empty ones where nothing was found."""
    return (None, None, None) if found is None else (found.value, found.low, found.high)
