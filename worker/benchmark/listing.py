"""The experiments that come with the program, on the terminal; needs no learning libraries, so it comes at once."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from worker.benchmark.experiment import Scale, known_experiments, load_experiment

FILE_WIDTH = 140  # where nobody's window says how wide a line is


def show_experiments() -> None:
    """Print the experiments that come with the program."""
    table = Table("experiment", "what", "quick", "full", box=None)
    for name in known_experiments():
        scales = [load_experiment(name, scale) for scale in Scale]
        sizes = [f"{len(one.arms)} arms, {one.seeds} seeds, {one.budget.labels} labels" for one in scales]
        table.add_row(name, scales[0].title, *sizes)
    print_table(table)


def print_table(table: Table) -> None:
    """Print as wide as the window is."""
    console = Console()
    Console(width=None if console.is_terminal else FILE_WIDTH).print(table)
