"""Benchmarks that the worker's program has run or is running: what their folders say, without a learning library.

A folder of results holds a folder for each benchmark. What is read here is what ``worker.benchmark`` writes:
``experiment.json``, ``wanted.json``, a line a round in ``results.jsonl``, and ``report.html`` at the end. Names that
come from outside are only ever compared with the names that are there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from app.errors import BadInput, NotFound, QuerentError, Unavailable

MOST_SHOWN = 100
LARGEST_BYTES = 64 * 1024 * 1024
UNDER_WAY = timedelta(minutes=15)
_FILES = ("experiment.json", "wanted.json", "results.jsonl", "report.html")


@dataclass(frozen=True)
class ArmEnd:
    """Where an arm is: its mean test accuracy at the most labels that it was measured with, over so many seeds."""

    arm: str
    labels: int
    accuracy: float
    seeds: int


@dataclass(frozen=True)
class Benchmark:
    """One folder of results.

    ``seeds_wanted`` and ``rounds_wanted`` are None for results of an earlier release, which did not say. ``best`` is
    the best of the arms that are compared with the ``baseline``.
    """

    name: str
    experiment: str
    title: str
    scale: str
    arms: int
    seeds_done: int
    seeds_wanted: int | None
    rounds_done: int
    rounds_wanted: int | None
    last_round_at: datetime | None
    reported_at: datetime | None
    best: ArmEnd | None
    baseline: ArmEnd | None

    @property
    def is_done(self) -> bool:
        """Whether every round that was asked for has ended."""
        return self.rounds_wanted is not None and self.rounds_done >= self.rounds_wanted

    @property
    def is_under_way(self) -> bool:
        """Whether rounds are missing and one has ended lately."""
        is_missing = self.rounds_wanted is not None and not self.is_done
        return is_missing and self.last_round_at is not None and _is_recent(self.last_round_at)

    @property
    def has_newer_rounds(self) -> bool:
        """Whether rounds have ended since the report was written."""
        if self.reported_at is None or self.last_round_at is None:
            return False
        return self.reported_at < self.last_round_at


@dataclass(frozen=True)
class Damaged:
    """A folder that cannot be read, and why."""

    name: str
    reason: str
    remedy: str


@dataclass(frozen=True)
class Benchmarks:
    """The folders of results, the one whose last round is newest first; ``more`` are not shown."""

    folder: str
    found: tuple[Benchmark, ...]
    damaged: tuple[Damaged, ...]
    more: int

    @property
    def is_under_way(self) -> bool:
        """Whether any of them is going on."""
        return any(one.is_under_way for one in self.found)


def list_benchmarks(folder: Path) -> Benchmarks:
    """Return what lies in the folder of results; one that is not there holds nothing.

    Raises:
        Unavailable: the folder cannot be read.
    """
    paths = sorted(_folders(folder), key=_changed_at, reverse=True)
    found, damaged = list[Benchmark](), list[Damaged]()
    for path in paths[:MOST_SHOWN]:
        try:
            found.append(_read(path))
        except QuerentError as error:
            damaged.append(Damaged(path.name, error.reason, error.remedy))
    return Benchmarks(str(folder), tuple(found), tuple(damaged), max(0, len(paths) - MOST_SHOWN))


def get_benchmark(folder: Path, name: str) -> Benchmark:
    """Return one benchmark.

    Raises:
        NotFound: no folder of results has this name.
        BadInput: its files are damaged.
        Unavailable: they cannot be read.
    """
    return _read(_find(folder, name))


def read_report(folder: Path, name: str) -> bytes:
    """Return the report of a benchmark, an HTML page that needs no other file.

    Raises:
        NotFound: no folder of results has this name, or no report was written yet.
        Unavailable: it cannot be read.
    """
    path = _find(folder, name) / "report.html"
    if path.is_symlink() or not path.is_file():
        raise NotFound(f"report of {name}", "it is written when the benchmark ends", "come back then")
    return _bytes(path)


def _find(folder: Path, name: str) -> Path:
    for path in _folders(folder):
        if path.name == name:
            return path
    raise NotFound("this benchmark", "there is none of this name", "choose one of the list")


def _folders(folder: Path) -> Iterator[Path]:
    try:
        inside = list(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise _unreadable(folder, error) from error
    for path in inside:
        # a link could lead anywhere
        if path.is_dir() and not path.is_symlink() and (path / "experiment.json").exists():
            yield path


def _changed_at(path: Path) -> float:
    return max((stamp[0] for stamp in _stamps(path)[:3]), default=0)


def _stamps(path: Path) -> tuple[tuple[int, int], ...]:
    """Return when each file was changed and how long it is; zeros for one that is not there."""
    found = []
    for name in _FILES:
        try:
            known = (path / name).stat()
            found.append((known.st_mtime_ns, known.st_size))
        except OSError:
            found.append((0, 0))
    return tuple(found)


def _read(path: Path) -> Benchmark:
    return _read_at(path, _stamps(path))


class _Arm(BaseModel):
    name: str
    labels: Literal["budget", "all"] = "budget"
    compared: bool = True


class _Experiment(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str
    title: str
    scale: str
    baseline: str
    arms: list[_Arm]


class _Wanted(BaseModel):
    model_config = ConfigDict(extra="ignore")

    seeds: int
    rounds: dict[str, int]


Kind = TypeVar("Kind", bound=BaseModel)


@lru_cache(maxsize=2 * MOST_SHOWN)
def _read_at(path: Path, stamps: tuple[tuple[int, int], ...]) -> Benchmark:
    """Read a folder; the stamps of its files are the key under which it is remembered."""
    experiment = _model(_Experiment, path / "experiment.json")
    wanted = _model(_Wanted, path / "wanted.json") if stamps[1][1] else None
    rounds = _rounds(path / "results.jsonl", {arm.name for arm in experiment.arms})
    ends = {arm: end for arm in rounds if (end := _end(arm, rounds[arm])) is not None}
    judged = [arm.name for arm in experiment.arms if arm.compared and arm.labels == "budget"]
    best = max((ends[arm] for arm in judged if arm in ends and arm != experiment.baseline), key=_accuracy, default=None)
    done = {arm: {seed: max(known) for seed, known in seeds.items()} for arm, seeds in rounds.items()}
    return Benchmark(
        name=path.name,
        experiment=experiment.name,
        title=experiment.title,
        scale=experiment.scale,
        arms=len(experiment.arms),
        seeds_done=0 if wanted is None else _seeds_done(wanted, done),
        seeds_wanted=None if wanted is None else wanted.seeds,
        rounds_done=sum(len(known) for seeds in rounds.values() for known in seeds.values()),
        rounds_wanted=None if wanted is None else wanted.seeds * sum(wanted.rounds.values()),
        last_round_at=_moment(stamps[2]),
        reported_at=_moment(stamps[3]),
        best=best,
        baseline=ends.get(experiment.baseline),
    )


# by arm, seed and round: labels and test accuracy
_Rounds = dict[str, dict[int, dict[int, tuple[int, float]]]]


def _rounds(path: Path, arms: set[str]) -> _Rounds:
    found: _Rounds = {}
    if not path.exists():
        return found
    text = _bytes(path).decode(errors="replace")
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if not line.endswith("\n"):
            break  # being written, or cut off
        try:
            table: dict[str, Any] = json.loads(line)
            arm, seed, place = str(table["arm"]), int(table["seed"]), int(table["round"])
            measured = int(table["labels"]), float(table["test_accuracy"])
        except (ValueError, TypeError, KeyError) as error:
            where = f"line {number} of {path.name}"
            raise BadInput(where, f"{where} is damaged", "delete that line and run the benchmark again") from error
        if arm in arms:
            found.setdefault(arm, {}).setdefault(seed, {}).setdefault(place, measured)
    return found


def _end(arm: str, seeds: dict[int, dict[int, tuple[int, float]]]) -> ArmEnd | None:
    lasts = [known[max(known)] for known in seeds.values()]
    if not lasts:
        return None
    most = max(labels for labels, _ in lasts)
    accuracies = [accuracy for labels, accuracy in lasts if labels == most]
    return ArmEnd(arm, most, sum(accuracies) / len(accuracies), len(accuracies))


def _seeds_done(wanted: _Wanted, done: dict[str, dict[int, int]]) -> int:
    return sum(
        all(done.get(arm, {}).get(seed, 0) >= rounds for arm, rounds in wanted.rounds.items())
        for seed in range(wanted.seeds)
    )


def _accuracy(end: ArmEnd) -> float:
    return end.accuracy


def _model(kind: type[Kind], path: Path) -> Kind:
    try:
        return kind.model_validate_json(_bytes(path))
    except ValidationError as error:
        raise BadInput(path.name, f"{path.name} is damaged", "run the benchmark again into another folder") from error


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise BadInput(path.name, f"{path.name} is too large to be shown", "open it where it lies")
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> Unavailable:
    reason = f"{path.name} cannot be read ({error.strerror})"
    return Unavailable("results", reason, "let the account of the web process read the folder of results")


def _moment(stamp: tuple[int, int]) -> datetime | None:
    return datetime.fromtimestamp(stamp[0] / 1e9, UTC) if stamp[0] else None


def _is_recent(at: datetime) -> bool:
    return datetime.now(UTC) - at < UNDER_WAY
