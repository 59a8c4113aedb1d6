"""``querent benchmark``: list experiments, run one, write its report. ``querent`` starts this module.

What the commands need is imported when they run, so that help and lists come at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from app.errors import BadInput, QuerentError, Unavailable
from worker.benchmark.experiment import Scale, load_experiment

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return its exit code. What a person can mend is told in one line."""
    given = _parser().parse_args(arguments)
    try:
        match given.command:
            case "list":
                _list()
            case "run":
                _run(given)
            case "report":
                _report(_named(given.folder, given.results))
    except QuerentError as error:
        print(f"querent: {error}", file=sys.stderr)  # noqa: T201 - this is a command
        return 1
    except KeyboardInterrupt:
        print("\nquerent: interrupted; the same command goes on from here", file=sys.stderr)  # noqa: T201 - likewise
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("querent benchmark", description="Rebuild published tables with this engine.")
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="folder of all results; default: results"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="list | run | report")
    commands.add_parser("list", help="name the experiments")
    run = commands.add_parser("run", help="run an experiment, or go on with it, and write its report")
    run.add_argument("name", help="a name that `list` prints, or a .toml file")
    run.add_argument("--seeds", type=_count, metavar="K", help="seeds 0 to K - 1; default: the experiment's")
    run.add_argument("--scale", type=Scale, choices=list(Scale), default=Scale.QUICK, help="default: quick")
    run.add_argument("--data", type=Path, default=Path("data"), help="folder of the torchvision sets; default: data")
    run.add_argument("--jobs", type=_count, metavar="J", help="runs at a time; default: a CPU core each, on CUDA one")
    run.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: CUDA if there is one")
    run.add_argument("--out", type=Path, metavar="DIR", help="folder of the results; default: NAME-SCALE among all")
    report = commands.add_parser("report", help="write the report of a folder of results anew")
    report.add_argument("folder", type=Path, metavar="DIR", help="a folder that `run` wrote, or its name among all")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _list() -> None:
    from worker.benchmark.listing import show_experiments

    show_experiments()


def _run(given: argparse.Namespace) -> None:
    experiment = load_experiment(given.name, given.scale)
    _need_libraries()
    from worker.benchmark.runner import Plan, run
    from worker.benchmark.watching import Watch

    out = given.out or given.results / f"{experiment.name}-{experiment.scale}"
    plan = Plan(
        experiment=experiment,
        seeds=given.seeds or experiment.seeds,
        data=given.data.expanduser(),
        out=out.expanduser(),
        jobs=given.jobs or _usual_jobs(given.device),
        device=None if given.device == "auto" else given.device,
    )
    _check_device(given.device)
    with Watch(plan) as watch:
        run(plan, watch.see)
    _report(plan.out)


def _report(folder: Path) -> None:
    _need_libraries()
    from worker.benchmark.records import Folder
    from worker.benchmark.report import write_report
    from worker.benchmark.results import Results
    from worker.benchmark.watching import show_summary

    written = write_report(folder)
    kept = Folder(folder)
    show_summary(Results.of(kept.experiment(), kept.lines()))
    print(written)  # noqa: T201 - this is a command


def _named(folder: Path, results: Path) -> Path:
    """Return the folder itself, or the one of this name among all results."""
    return folder if folder.exists() or len(folder.parts) > 1 else results / folder


def _usual_jobs(device: str) -> int:
    import torch

    uses_cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    return 1 if uses_cuda else len(os.sched_getaffinity(0))


def _check_device(device: str) -> None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device cuda", "torch finds no CUDA here", "use cpu, or install a build of torch for CUDA")


def _need_libraries() -> None:
    try:
        import matplotlib  # noqa: F401 - whether it is there
        import torch  # noqa: F401 - likewise
    except ModuleNotFoundError as error:
        reason = f"{error.name} is not installed here"
        raise Unavailable("benchmark", reason, 'install "querent[worker]", or use the image of the worker') from error


if __name__ == "__main__":
    sys.exit(main())
