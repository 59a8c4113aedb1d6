"""A benchmark on the terminal: bars for people who watch, a line a run for logs, and where the arms ended."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from worker.benchmark.listing import print_table
from worker.benchmark.records import Folder, RunKey
from worker.benchmark.results import Results
from worker.benchmark.runner import Plan, runs_left
from worker.benchmark.running import RunProgress, rounds_expected
from worker.benchmark.tables import summary
from worker.benchmark.verdicts import points, verdicts

SHOW_SECONDS = 0.1


class Watch:
    """Shows how runs go: a bar for all rounds and one for each run that is under way."""

    def __init__(self, plan: Plan) -> None:
        self._console = Console(stderr=True)
        left = runs_left(plan)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        wanted = set(left)
        known = sum(RunKey(line.arm, line.seed) in wanted for line in Folder(plan.out).lines())
        total = sum(rounds_expected(plan.experiment, key.arm) for key in left)
        self._all = self._bars.add_task(f"{plan.experiment.name} rounds", total=total, completed=known, told="")
        self._of_run: dict[RunKey, TaskID] = {}
        self._next = 0.0
        self._left, self._ended = len(left), 0

    def __enter__(self) -> Watch:
        self._bars.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bars.stop()

    def see(self, progress: RunProgress) -> None:
        """Show a run's progress."""
        key = progress.key
        if progress.stage is not None:
            now = time.monotonic()
            if now < self._next:
                return
            self._next = now + SHOW_SECONDS
            bar = self._bar(key)
            told = f"{progress.labels} labels, {progress.stage.value}"
            self._bars.update(bar, completed=progress.done, total=progress.total, told=told)
            return
        self._bars.advance(self._all)
        self._bars.update(self._all, told=f"{key.arm} {progress.test_accuracy:.1%}")
        if progress.is_done:
            self._end(progress)

    def _bar(self, key: RunKey) -> TaskID:
        if key not in self._of_run:
            self._of_run[key] = self._bars.add_task(f"  {key.arm}, seed {key.seed}", total=None, told="")
        return self._of_run[key]

    def _end(self, progress: RunProgress) -> None:
        key = progress.key
        if key in self._of_run:
            self._bars.remove_task(self._of_run.pop(key))
        self._ended += 1
        text = f"{progress.test_accuracy:.2%} with {progress.labels} labels"
        self._console.print(f"run {self._ended} of {self._left}: {key.arm}, seed {key.seed}: {text}", highlight=False)


def show_summary(results: Results) -> None:
    """Print where each arm ended, and how it stands to the baseline on average over the budget."""
    against = f"against {results.experiment.baseline}"
    table = Table("arm", "seeds", "labels", "test accuracy", "95% interval", against, "", box=None)
    told = {verdict.arm: verdict for verdict in verdicts(results)}
    for arm, seeds, labels, accuracy, low, high, *_ in summary(results).rows:
        interval = "" if low is None or high is None else f"{float(low):.2%} to {float(high):.2%}"
        verdict = told.get(str(arm))
        difference = (f"{points(verdict.area.value)} points", str(verdict.standing)) if verdict else ("", "")
        table.add_row(str(arm), str(seeds), str(labels), f"{float(accuracy or 0):.2%}", interval, *difference)
    print_table(table)
