"""The report of a benchmark: CSV tables, PNG pictures, and one HTML file that needs no other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from app.errors import NotFound
from worker.benchmark.drawing import Plot
from worker.benchmark.experiment import Experiment
from worker.benchmark.ledger import ledger_tables, ledger_verdicts
from worker.benchmark.pair_report import pair_tables, pair_verdicts
from worker.benchmark.plots import draw_all
from worker.benchmark.records import Folder
from worker.benchmark.results import Results
from worker.benchmark.table import Cell, Table
from worker.benchmark.tables import all_tables
from worker.benchmark.verdicts import Headline, headlines, points, verdicts

TEMPLATE = "report.html"
# What stands together: pictures and tables by name, where there are any. A star stands for the rest of a name.
_SECTIONS = (
    ("Accuracy over labels", ("accuracy", "difference"), ("summary", "areas", "guard", "targets")),
    ("Against published figures", (), ("published",)),
    ("Calibration", ("nll", "ece", "entropy"), ("calibration",)),
    ("Pseudo-labels", (), ("beside", "ledger")),
    ("Co-training", ("co_training",), ("co_training",)),
    ("The rare class", ("rare_class",), ("rare_class",)),
    ("Classes", ("confusion-*",), ("per_class", "confusion")),
    ("The pool", ("centroids", "confidences"), ()),
    ("Time", ("times",), ("times",)),
    ("Every round", (), ("curves",)),
)


@dataclass(frozen=True)
class Section:
    """Pictures and tables about one matter."""

    title: str
    plots: tuple[Plot, ...]
    tables: tuple[Table, ...]


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
    tables = [*all_tables(results), *ledger_tables(results), *pair_tables(results)]
    for table in tables:
        table.write(path)
    by_name = {table.name: table for table in tables}
    wanted = folder.wanted()
    plots = draw_all(results, by_name, path, wanted.class_names if wanted else [])
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update(shown=_shown, points=points, words=_words)
    text = environment.get_template(TEMPLATE).render(
        experiment=experiment,
        protocol=_protocol(experiment),
        machines=_machines(path),
        headlines=[
            *headlines(results, wanted),
            *(Headline("With and without pseudo-labels", text) for text in ledger_verdicts(results)),
            *(Headline("Co-training", text) for text in pair_verdicts(results)),
        ],
        verdicts=verdicts(results),
        sections=list(_sections(plots, by_name)),
        recipes=list(_recipes(experiment)),
    )
    target = path / "report.html"
    fresh = target.with_suffix(".part")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(target)
    return target


def _sections(plots: list[Plot], tables: dict[str, Table]) -> Iterator[Section]:
    for title, pictures, names in _SECTIONS:
        drawn = tuple(plot for pattern in pictures for plot in plots if fnmatchcase(plot.name, pattern))
        told = tuple(tables[name] for name in names if name in tables)
        if drawn or told:
            yield Section(title, drawn, told)


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


def _words(text: str) -> Markup:
    """Set what stands between backticks as code."""
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(part) if odd % 2 else part for odd, part in enumerate(text.split("`")))


def _protocol(experiment: Experiment) -> str:
    data, splits, budget = experiment.data, experiment.splits, experiment.budget
    sizes = [f"{count:,}" if count else "all" for count in (splits.pool, splits.test)]
    words = [f"{data.name}, pool of {sizes[0]} and {sizes[1]} test images"]
    if splits.draw == "first":
        words.append("the first of the set")
    if splits.validation == "test":
        words.append("every fit looks at the test images")
    if data.repeats > 1:
        words.append(f"{data.repeats} copies with noise of {data.noise:g}")
    if data.rare_class is not None:
        words.append(f"class {data.rare_class} is {data.rare_share:.1%} of the pool")
    words.append(f"seed set of {experiment.seed_set.count:,} ({experiment.seed_set.draw.replace('_', ' ')})")
    words.append(f"batches of {budget.batch:,} up to {budget.labels:,} labels")
    if budget.extra_rounds:
        words.append(f"then {budget.extra_rounds} rounds without, for arms that label by themselves")
    if budget.candidates is not None:
        words.append(f"chosen of {budget.candidates:,} drawn each round")
    if experiment.oracle.noise:
        words.append(f"{experiment.oracle.noise:.0%} of the answers wrong")
    return ", ".join(words) + "."


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
        of = experiment.arm(name).candidates
        yield name, (own or "nothing of its own") + is_all + (f", chosen of {of:,} drawn each round" if of else "")
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
