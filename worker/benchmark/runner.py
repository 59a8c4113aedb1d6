"""All runs of an experiment, in one process or several, each on one core, with progress that people can watch."""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty
from typing import Any

import torch

from app.errors import BadInput, QuerentError, Unavailable
from worker.benchmark.datasets import Dataset, divide, open_dataset
from worker.benchmark.experiment import Experiment
from worker.benchmark.records import Folder, RunKey, Wanted
from worker.benchmark.running import Report, RunProgress, rounds_expected, run_arm
from worker.learning.devices import at_most_cores, pick_device

LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Plan:
    """What is to be run and how; ``device`` None takes CUDA if there is one."""

    experiment: Experiment
    seeds: int
    data: Path
    out: Path
    jobs: int
    device: str | None


@dataclass(frozen=True)
class _Failure:
    """A QuerentError on its way between processes."""

    key: RunKey
    subject: str
    reason: str
    remedy: str


def run(plan: Plan, report: Report) -> Folder:
    """Run what is not yet there of an experiment; what was cut off goes on where it was.

    Each run computes on one CPU core, so results depend neither on ``jobs`` nor on the machine's cores.

    Args:
        plan: the experiment and how to run it.
        report: told how each run goes, in this thread.
    Returns:
        The folder with all results.
    Raises:
        BadInput: the experiment, or one of its arms, cannot be run on these images.
        Conflict: the folder belongs to other conditions or another process.
        Unavailable: a process was ended from outside.
    """
    folder, experiment = Folder(plan.out), plan.experiment
    with folder.held():
        folder.begin(experiment)
        open_keys = runs_left(plan)
        if not open_keys:
            return folder
        dataset = open_dataset(experiment.data, experiment.image_side, plan.data, folder.cache)
        for seed in range(plan.seeds):
            divide(dataset, experiment, seed)  # told before anything is run
        rounds = {arm.name: rounds_expected(experiment, arm.name) for arm in experiment.arms}
        folder.want(Wanted(plan.seeds, rounds, list(dataset.class_names)))
        folder.note(_machine(plan))
        if plan.jobs == 1:
            with at_most_cores(1):
                for key in open_keys:
                    _tell(_attempt(plan, key, dataset, report))
        else:
            _run_in_processes(plan, open_keys, report)
        folder.tidy()
    return folder


def runs_left(plan: Plan) -> list[RunKey]:
    """Return the runs that have not ended."""
    folder = Folder(plan.out)
    keys = [RunKey(arm.name, seed) for seed in range(plan.seeds) for arm in plan.experiment.arms]
    return [key for key in keys if not _is_done(folder, key)]


def _is_done(folder: Folder, key: RunKey) -> bool:
    state = folder.state(key)
    return state is not None and state.is_done


def _machine(plan: Plan) -> dict[str, Any]:
    device = pick_device(plan.device)
    return {
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seeds": plan.seeds,
        "jobs": plan.jobs,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _run_in_processes(plan: Plan, keys: Iterable[RunKey], report: Report) -> None:
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    channel: Queue[RunProgress] = context.Queue()
    initialise = (plan, channel)
    with ProcessPoolExecutor(plan.jobs, context, _begin_process, initialise) as pool:
        pending: set[Future[_Failure | None]] = {pool.submit(_run_one, key) for key in keys}
        try:
            while pending:
                done, pending = wait(pending, LOOK_SECONDS, FIRST_COMPLETED)
                _pass_on(channel, report)
                _check(done)
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()  # what they have not ended goes on next time
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        _pass_on(channel, report)


def _check(done: Iterable[Future[_Failure | None]]) -> None:
    for future in done:
        try:
            failure = future.result()
        except BrokenProcessPool as error:
            reason = "one of its processes was ended from outside, perhaps for want of memory"
            raise Unavailable("benchmark", reason, "run the same command again, with fewer --jobs") from error
        _tell(failure)


def _tell(failure: _Failure | None) -> None:
    if failure is not None:
        where = f"arm {failure.key.arm}, seed {failure.key.seed}, {failure.subject}"
        raise BadInput(where, failure.reason, failure.remedy)


def _pass_on(channel: Queue[RunProgress], report: Report) -> None:
    while True:
        try:
            report(channel.get_nowait())
        except Empty:
            return


class _Process:
    """What a process of the pool keeps between its runs."""

    plan: Plan
    dataset: Dataset
    report: Callable[[RunProgress], None]
    stack: ExitStack


def _begin_process(plan: Plan, channel: Queue[RunProgress]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches all processes; one of them tells of it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _Process.stack = ExitStack()
    _Process.stack.enter_context(at_most_cores(1))
    _Process.plan = plan
    folder = Folder(plan.out)
    _Process.dataset = open_dataset(plan.experiment.data, plan.experiment.image_side, plan.data, folder.cache)
    _Process.report = channel.put


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_one(key: RunKey) -> _Failure | None:
    return _attempt(_Process.plan, key, _Process.dataset, _Process.report)


def _attempt(plan: Plan, key: RunKey, dataset: Dataset, report: Report) -> _Failure | None:
    try:
        run_arm(plan.experiment, key, dataset, Folder(plan.out), device=plan.device, report=report)
    except QuerentError as error:
        return _Failure(key, error.subject, error.reason, error.remedy)
    return None
