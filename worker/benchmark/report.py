"""The report of a benchmark: CSV tables, PNG pictures, and one HTML file that needs no other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app.errors import NotFound
from worker.benchmark.experiment import Experiment
from worker.benchmark.ledger import ledger_tables, ledger_verdicts
from worker.benchmark.plots import draw_all
from worker.benchmark.records import Folder
from worker.benchmark.results import Results
from worker.benchmark.tables import Cell, Table, all_tables

TEMPLATE = "report.html"


def write_report(path: Path) -> Path:
    """Write tables, pictures and ``report.html`` into a folder of results; return the latter.

    Runs that have not ended are part of it as far as they are.

    Raises:
        NotFound: the folder holds no results.
        BadInput: a file in it is damaged.
    """
    folder = Folder(path)
    experiment = folder.experiment()
    results = Results.of(experiment, folder.lines(), folder.round_details())
    if not results.curves:
        raise NotFound(str(path), "no round of this experiment has ended yet", "run it first")
    tables = [*all_tables(results), *ledger_tables(results)]
    for table in tables:
        table.write(path)
    by_name = {table.name: table for table in tables}
    plots = draw_all(results, by_name, path)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["shown"] = _shown
    text = environment.get_template(TEMPLATE).render(
        experiment=experiment,
        protocol=_protocol(experiment),
        progress=_progress(results),
        machines=_machines(path),
        verdicts=[*verdicts(results, by_name["summary"], by_name["guard"]), *ledger_verdicts(results)],
        plots=plots,
        tables=[table for table in tables if table.name != "confusion"],
        recipes=list(_recipes(experiment)),
    )
    target = path / "report.html"
    fresh = target.with_suffix(".part")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(target)
    return target


def verdicts(results: Results, summary: Table, guard: Table) -> Iterator[str]:
    """Say of each arm in one sentence how it did against the baseline, losses as plainly as wins."""
    baseline = results.experiment.baseline
    at = {column: place for place, column in enumerate(summary.columns)}
    for row in summary.rows:
        values = {column: row[place] for column, place in at.items()}
        if values["area_difference"] is None:
            continue
        sides = (values["difference_low"], values["difference_high"])
        interval = f" [{_points(sides[0])}, {_points(sides[1])}]" if sides[0] is not None else ""
        verdict = "not told apart from"
        if isinstance(sides[0], float) and isinstance(sides[1], float):
            verdict = "better than" if sides[0] > 0 else "worse than" if sides[1] < 0 else verdict
        yield (
            f"{values['arm']} is {verdict} {baseline}: {_points(values['area_difference'])} points{interval} on "
            f"average over the budget, {_points(values['best_difference'])} at best (at {values['best_at_labels']} "
            f"labels), {_points(values['worst_difference'])} at worst (at {values['worst_at_labels']} labels)."
        )
    losers = sorted({str(row[0]) for row in guard.rows})
    if losers:
        yield f"More than one point below {baseline} at some budget: {', '.join(losers)} (table below)."
    elif results.compared():
        yield f"No arm is more than one point below {baseline} at any budget."


def _points(share: Cell) -> str:
    return f"{100 * float(share or 0.0):+.2f}"


def _shown(cell: Cell) -> str:
    match cell:
        case None:
            return "–"
        case float() if cell.is_integer() and abs(cell) >= 10:
            return f"{cell:,.0f}"
        case float():
            return f"{cell:.4f}" if abs(cell) < 10 else f"{cell:,.1f}"
        case int():
            return f"{cell:,}"
        case _:
            return str(cell)


def _protocol(experiment: Experiment) -> str:
    data, splits, budget = experiment.data, experiment.splits, experiment.budget
    words = [f"{data.name}, pool of {splits.pool or 'all'} and {splits.test or 'all'} test images"]
    if splits.draw == "first":
        words.append("the first of the set")
    if data.repeats > 1:
        words.append(f"{data.repeats} copies with noise of {data.noise:g}")
    if data.rare_class is not None:
        words.append(f"class {data.rare_class} is {data.rare_share:.1%} of the pool")
    words.append(f"seed set of {experiment.seed_set.count} ({experiment.seed_set.draw.replace('_', ' ')})")
    words.append(f"batches of {budget.batch} up to {budget.labels} labels")
    if budget.extra_rounds:
        words.append(f"then {budget.extra_rounds} rounds without, for arms that label by themselves")
    if budget.candidates is not None:
        words.append(f"chosen of {budget.candidates} drawn each round")
    if experiment.oracle.noise:
        words.append(f"{experiment.oracle.noise:.0%} of the answers wrong")
    return ", ".join(words) + "."


def _progress(results: Results) -> str:
    seeds = {arm: len(found) for arm, found in results.curves.items()}
    missing = [arm.name for arm in results.experiment.arms if arm.name not in seeds]
    text = ", ".join(f"{arm} {count}" for arm, count in seeds.items())
    return f"Seeds with results: {text}." + (f" Not run: {', '.join(missing)}." if missing else "")


def _machines(path: Path) -> list[str]:
    log = path / "machines.jsonl"
    if not log.exists():
        return []
    known = [json.loads(line) for line in log.read_text().splitlines()]
    return list(dict.fromkeys(f"On {one['device']} ({one['machine']}), torch {one['torch']}" for one in known))


def _recipes(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Name what all arms share, then what each has for itself, then what is otherwise in the first fit."""
    parts = {arm.name: _flat(experiment.recipe_of(arm, 0).as_json()) for arm in experiment.arms}
    first, *others = parts.values()
    shared = {key for key in first if all(other.get(key) == first[key] for other in others)} - {"seed"}
    yield "all arms", _listed({key: first[key] for key in first if key in shared})
    for name, recipe in parts.items():
        own = _listed({key: value for key, value in recipe.items() if key not in shared and key != "seed"})
        is_all = " (all labels of the pool)" if experiment.arm(name).labels == "all" else ""
        yield name, (own or "nothing of its own") + is_all
    if experiment.first_fit:
        yield "first fit", _listed(_flat(experiment.first_fit))


def _flat(recipe: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in recipe.items():
        inner = value.items() if isinstance(value, dict) else (("", value),)
        flat |= {key if name in {"", "name"} else f"{key}.{name}": one for name, one in inner}
    return flat


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in values.items())
