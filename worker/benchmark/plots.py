"""The pictures of a report, each as a PNG file and as SVG text: learning curves with bands, differences, confusion."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from worker.benchmark.experiment import Metric
from worker.benchmark.pair_report import draw_pairs
from worker.benchmark.records import RoundLine
from worker.benchmark.results import Results
from worker.benchmark.statistics import mean_interval
from worker.benchmark.tables import BELOW, Table

# Told apart by people who see colours otherwise, too (Okabe and Ito 2008); markers repeat more slowly than colours.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8B6914")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h")
_STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.hashsalt": "querent",
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Plot:
    """One picture, and what it says to those who do not see it."""

    name: str
    title: str
    svg: str


def draw_all(results: Results, tables: dict[str, Table], folder: Path) -> list[Plot]:
    """Draw every picture of a report and keep each as ``<name>.png`` in the folder."""
    drawn = []
    with matplotlib.rc_context(_STYLE):
        for name, title, figure in _figures(results, tables):
            figure.savefig(folder / f"{name}.png", dpi=144, metadata={"Software": None})
            text = io.StringIO()
            figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
            drawn.append(Plot(name, title, text.getvalue()[text.getvalue().index("<svg") :]))
    return drawn


def _figures(results: Results, tables: dict[str, Table]) -> Iterator[tuple[str, str, Figure]]:
    yield (
        "accuracy",
        "Test accuracy over labels, with 95% bands over seeds",
        _curves(results, Metric.TEST_ACCURACY, "test accuracy", lambda line: line.test_accuracy),
    )
    if results.compared():
        title = f"Accuracy against {results.experiment.baseline}, paired by seed, with 95% bands"
        yield "difference", title, _differences(results)
    yield (
        "nll",
        "Test NLL over labels, in nats",
        _curves(results, Metric.TEST_NLL, "test NLL [nats]", lambda line: line.test_nll),
    )
    yield (
        "entropy",
        "Mean entropy of the test predictions over labels, in nats",
        _curves(results, Metric.MEAN_ENTROPY, "mean entropy [nats]", lambda line: line.mean_entropy),
    )
    if "rare_class" in tables:
        yield "rare_class", "Recall of the rare class over labels, with 95% bands", _rare_class(tables["rare_class"])
    if "co_training" in tables:
        figure, axes = _axes()
        draw_pairs(tables["co_training"], axes, lambda arm: _look(results, arm))
        yield "co_training", "Test accuracy of a network over epochs of co-training, with 95% bands", figure
    if "confusion" in tables:
        yield (
            "confusion",
            "Confusion after the last round, as shares of each true class",
            _confusion(results, tables["confusion"]),
        )


def _axes(width: float = 7.2, height: float = 4.2) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _look(results: Results, arm: str) -> tuple[str, str]:
    place = [known.name for known in results.experiment.arms].index(arm)
    return _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]


def _curves(results: Results, metric: Metric, title: str, figure_of: Callable[[RoundLine], float]) -> Figure:
    figure, axes = _axes()
    for arm in results.curves:
        colour, marker = _look(results, arm)
        labels = results.labels(arm)
        found = [mean_interval(results.at(arm, count, figure_of)) for count in labels]
        means = [one.value for one in found]
        if results.experiment.arm(arm).labels == "all":
            axes.axhline(means[-1], color=colour, linestyle="--", linewidth=1, label=f"{arm} ({labels[-1]:,} labels)")
            continue
        every = max(1, len(labels) // 12)
        axes.plot(labels, means, color=colour, marker=marker, markevery=every, markersize=4, linewidth=1.3, label=arm)
        lows, highs = ([getattr(one, side) for one in found] for side in ("low", "high"))
        _band(axes, labels, lows, highs, colour)
    for series in results.experiment.published:
        if series.metric is metric:
            colour = _look(results, series.arm)[0] if series.arm else "#777777"
            if series.arm and results.experiment.arm(series.arm).labels == "all":
                axes.axhline(series.values[-1], color=colour, linestyle=":", label=f"{series.series} (published)")
                continue
            axes.plot(
                series.labels, series.values, color=colour, marker="x", markersize=7, linestyle=":", linewidth=1,
                label=f"{series.series} (published)",
            )  # fmt: skip
    axes.set_xlabel("labels")
    axes.set_ylabel(title)
    axes.legend(fontsize=8)
    return figure


def _band(axes: Axes, labels: list[int], lows: list[float | None], highs: list[float | None], colour: str) -> None:
    low, high = (np.array([np.nan if one is None else one for one in side]) for side in (lows, highs))
    axes.fill_between(labels, low, high, color=colour, alpha=0.15, linewidth=0)


def _differences(results: Results) -> Figure:
    figure, axes = _axes(height=3.4)
    axes.axhline(0, color="#444444", linewidth=1)
    axes.axhline(-100 * BELOW, color="#444444", linewidth=0.8, linestyle=":")
    for arm in results.compared():
        colour, marker = _look(results, arm)
        found = results.differences(arm)
        labels = list(found)
        means = [100 * one.value for one in found.values()]
        axes.plot(
            labels, means, color=colour, marker=marker, markersize=4, linewidth=1.3, label=arm,
            markevery=max(1, len(labels) // 12),
        )  # fmt: skip
        lows, highs = (
            [None if getattr(one, side) is None else 100 * getattr(one, side) for one in found.values()]
            for side in ("low", "high")
        )
        _band(axes, labels, lows, highs, colour)
    axes.set_xlabel("labels")
    axes.set_ylabel(f"points above {results.experiment.baseline}")
    axes.legend(fontsize=8)
    return figure


def _rare_class(table: Table) -> Figure:
    figure, axes = _axes(height=3.4)
    arms = list(dict.fromkeys(str(row[0]) for row in table.rows))
    for place, arm in enumerate(arms):
        rows = [row for row in table.rows if row[0] == arm]
        labels, recalls, lows, highs = ([row[column] for row in rows] for column in (1, 3, 4, 5))
        colour = _COLOURS[place % len(_COLOURS)]
        axes.plot(labels, recalls, color=colour, marker=_MARKERS[place], markersize=4, label=arm)  # type: ignore[arg-type]
        _band(axes, labels, lows, highs, colour)  # type: ignore[arg-type]
    axes.set_xlabel("labels")
    axes.set_ylabel("recall of the rare class")
    axes.legend(fontsize=8)
    return figure


def _confusion(results: Results, table: Table) -> Figure:
    arms = [arm for arm in results.curves if any(row[0] == arm for row in table.rows)]
    classes = 1 + max(int(row[1] or 0) for row in table.rows)
    columns = min(4, len(arms))
    lines = -(-len(arms) // columns)
    figure = Figure(figsize=(2.1 * columns, 2.3 * lines), layout="constrained")
    for place, arm in enumerate(arms):
        counts = np.zeros((classes, classes))
        for _, true, predicted, images in (row for row in table.rows if row[0] == arm):
            counts[int(true or 0), int(predicted or 0)] = float(images or 0)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes = figure.add_subplot(lines, columns, place + 1)
        # the root shows the rare mistakes beside the many right ones
        axes.imshow(np.sqrt(shares), vmin=0, vmax=1, cmap="Blues")
        axes.set_title(arm, fontsize=8)
        axes.set_xlabel("predicted", fontsize=7)
        axes.set_ylabel("true", fontsize=7)
        axes.grid(visible=False)
        axes.tick_params(labelsize=6)
    return figure
