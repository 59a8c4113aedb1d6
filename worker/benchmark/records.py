"""What a benchmark keeps in its folder: a line a round, the state of every run, and the conditions of all of them.

``results.jsonl`` has the figures, ``details.jsonl`` what else was found; a line that was cut off while it was written
is dropped when the folder is opened. ``state/`` says where each run goes on.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from app.errors import BadInput, Conflict, NotFound
from worker.benchmark.experiment import Experiment, parse_experiment
from worker.learning.pool import Rows
from worker.learning.pseudo_labelers import PseudoLabels


@dataclass(frozen=True, order=True)
class RunKey:
    """One run: an arm with a seed."""

    arm: str
    seed: int


@dataclass(frozen=True)
class RoundLine:
    """The figures of one round, measured on the test images; ``labels`` are the oracle's alone.

    ``pseudo_labels`` stood when the network was fitted; unless their weight is 0, it learned from them.
    ``mean_entropy`` is that of the test images, ``mean_pool_entropy`` that of the candidates; None where asking read
    none of them.
    """

    experiment: str
    arm: str
    seed: int
    round: int
    labels: int
    pseudo_labels: int
    test_accuracy: float
    test_nll: float
    ece: float
    mean_entropy: float
    seconds_fit: float
    seconds_score: float
    seconds_select: float
    mean_pool_entropy: float | None = None

    @property
    def key(self) -> tuple[str, int, int]:
        """What names the round."""
        return self.arm, self.seed, self.round


@dataclass(frozen=True)
class RoundDetail:
    """What else a round found: how the fit went, per-class figures, what was asked next and what was answered.

    Of the ``pseudo_labels`` that stood when the network was fitted, ``pseudo_right`` are the truth; ``pseudo_report``
    says how those of the next round were chosen.
    ``pair`` has what ``worker.benchmark.pairs`` saw of the epochs of co-training.
    What has a default was not yet kept when older results were written.
    """

    arm: str
    seed: int
    round: int
    epochs: int
    best_epoch: int
    steps: int
    stopped_by: str
    started_from: str
    seconds_evaluate: float
    wrong_labels: int
    labels_per_class: list[int]
    recalls: list[float | None]
    precisions: list[float | None]
    confusion: list[list[int]]
    asked_rows: list[int]
    pseudo_labels: int = 0
    pseudo_right: int = 0
    pseudo_report: dict[str, Any] = field(default_factory=dict)
    mean_pool_entropy: float | None = None
    pair: list[dict[str, Any]] = field(default_factory=list)
    brier: float | None = None
    roc_auc: float | None = None
    roc_aucs: list[float | None] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, int, int]:
        """What names the round."""
        return self.arm, self.seed, self.round


Line = TypeVar("Line", RoundLine, RoundDetail)


@dataclass(frozen=True)
class RunState:
    """Where a run is: rounds ended, rows labelled and the oracle's answers in their order, weights if they go on.

    ``is_drawn`` says which of the rows were drawn uniformly; ``pseudo`` are the labels of models that stand.
    """

    round: int
    rows: Rows
    answers: Rows
    is_drawn: np.ndarray
    parent: bytes | None
    is_done: bool
    pseudo: PseudoLabels = field(default_factory=PseudoLabels.none)


# Of runs that were made before there were any.
_NO_PSEUDO_LABELS = {f"pseudo_{name}": getattr(PseudoLabels.none(), name) for name in ("rows", "labels", "confidences")}


@dataclass(frozen=True)
class Wanted:
    """What the latest command asked of a folder: seeds, the rounds that a run of each arm takes, the classes' names."""

    seeds: int
    rounds: dict[str, int]
    class_names: list[str]


class Folder:
    """The folder of one experiment's results."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results = path / "results.jsonl"
        self.details = path / "details.jsonl"
        self.cache = path / "cache"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for one benchmark at a time; the kernel lets go of it however the holder ends.

        Raises:
            Conflict: another one holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(str(self.path), "another benchmark runs there", "wait, or give another --out") from None
            yield

    def begin(self, experiment: Experiment) -> None:
        """Keep the experiment's conditions, or see that they are those of the runs that are there.

        Raises:
            Conflict: the runs there were made under other conditions.
        """
        kept = self.path / "experiment.json"
        if kept.exists():
            old, new = self.experiment().conditions(), experiment.conditions()
            old_arms, new_arms = ({arm["name"]: arm for arm in one.pop("arms")} for one in (old, new))
            changed = [key for key in new if old[key] != new[key]]
            changed += [f"arm {name}" for name in new_arms if old_arms.get(name, new_arms[name]) != new_arms[name]]
            if changed:
                reason = f"the runs there were made with another {', '.join(changed)}"
                raise Conflict(str(self.path), reason, "give another --out, or delete that folder")
        for log in (self.results, self.details):
            _drop_half_line(log)
        write_whole(kept, json.dumps(experiment.model_dump(mode="json"), indent=2).encode())

    def experiment(self) -> Experiment:
        """Return the experiment whose results lie here.

        Raises:
            NotFound: no results.
            BadInput: the file is not one that ``begin`` wrote.
        """
        kept = self.path / "experiment.json"
        if not kept.exists():
            raise NotFound(str(self.path), "there are no results of a benchmark", "name a folder that `run` wrote")
        try:
            return parse_experiment(json.loads(kept.read_text()), str(kept))
        except json.JSONDecodeError as error:
            raise BadInput(str(kept), f"it is no JSON ({error})", "run the experiment into another folder") from error

    def want(self, wanted: Wanted) -> None:
        """Remember what the runs to come are asked for, so that others can tell what is missing."""
        write_whole(self.path / "wanted.json", json.dumps(asdict(wanted)).encode())

    def wanted(self) -> Wanted | None:
        """Return what the latest command asked for; None for results that are older than this file."""
        kept = self.path / "wanted.json"
        return Wanted(**json.loads(kept.read_text())) if kept.exists() else None

    def note(self, machine: dict[str, Any]) -> None:
        """Remember on what the runs were made."""
        _append(self.path / "machines.jsonl", machine)

    def lines(self) -> list[RoundLine]:
        """Return the figures of every round once, by arm, seed and round.

        Raises:
            BadInput: a line that holds something else.
        """
        found: dict[tuple[str, int, int], RoundLine] = {}
        for line in _read_as(RoundLine, self.results):
            found.setdefault(line.key, line)
        return [found[key] for key in sorted(found)]

    def round_details(self) -> list[RoundDetail]:
        """Return the details of every round once, by arm, seed and round.

        Raises:
            BadInput: a line that holds something else.
        """
        found: dict[tuple[str, int, int], RoundDetail] = {}
        for detail in _read_as(RoundDetail, self.details):
            found.setdefault(detail.key, detail)
        return [found[key] for key in sorted(found)]

    def add(self, line: RoundLine, detail: RoundDetail) -> None:
        """Add a round, each file in one write."""
        _append(self.details, asdict(detail))
        _append(self.results, asdict(line))

    def state(self, key: RunKey) -> RunState | None:
        """Return where a run is, None if it has not ended a round."""
        path = self._state_path(key)
        try:
            with np.load(path) as opened:
                file = {**_NO_PSEUDO_LABELS, "is_drawn": np.zeros(len(opened["rows"]), np.bool_), **opened}
            parent = file["parent"].tobytes() or None
            pseudo = PseudoLabels(file["pseudo_rows"], file["pseudo_labels"], file["pseudo_confidences"])
            arrays = (file["rows"], file["answers"], file["is_drawn"])
            return RunState(int(file["round"]), *arrays, parent, bool(file["is_done"]), pseudo)
        except (FileNotFoundError, KeyError, ValueError, zipfile.BadZipFile):
            return None  # not there, or cut off: the run begins anew and finds the same

    def save(self, key: RunKey, state: RunState) -> None:
        """Remember where a run is; its lines are written before, so that none is missing if this never happens."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            round=state.round,
            rows=state.rows,
            answers=state.answers,
            is_drawn=state.is_drawn,
            pseudo_rows=state.pseudo.rows,
            pseudo_labels=state.pseudo.labels,
            pseudo_confidences=state.pseudo.confidences,
            parent=np.frombuffer(state.parent or b"", np.uint8),
            is_done=state.is_done,
        )
        write_whole(self._state_path(key), buffer.getvalue())

    def tidy(self) -> None:
        """Delete what can be built again."""
        shutil.rmtree(self.cache, ignore_errors=True)

    def _state_path(self, key: RunKey) -> Path:
        return self.path / "state" / f"{key.arm}.{key.seed}.npz"


def _read_as(kind: type[Line], path: Path) -> Iterator[Line]:
    """Read every line as a dataclass; what it does not know is left out, what it lacks takes its default."""
    known = fields(kind)
    needed = [one.name for one in known if one.default is MISSING and one.default_factory is MISSING]
    for number, table in enumerate(_read(path), 1):
        missing = [name for name in needed if name not in table]
        if missing:
            where = f"{path}, line {number}"
            raise BadInput(where, f"it has no {', '.join(missing)}", "delete that line and run again")
        yield kind(**{one.name: table[one.name] for one in known if one.name in table})


def _read(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for number, text in enumerate(path.read_text().splitlines(keepends=True), 1):
        if not text.endswith("\n"):
            return  # being written, or cut off
        try:
            yield json.loads(text)
        except json.JSONDecodeError as error:
            where = f"{path}, line {number}"
            raise BadInput(where, f"it is no JSON ({error.msg})", "delete that line and run again") from error


def _append(path: Path, table: dict[str, Any]) -> None:
    """Add one line; processes take turns, and a reader sees it whole or without its end."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(table).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _drop_half_line(path: Path) -> None:
    if path.exists():
        with path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_bytes(data)
    fresh.replace(path)
