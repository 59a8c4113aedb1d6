"""The pictures of a report: learning curves with bands, differences, calibration, rare class, confusion, pool, time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from worker.benchmark.class_tables import confusion_of
from worker.benchmark.drawing import COLOURS, FAINT, INK, Plot, axes_of, legend, line, look, save, style
from worker.benchmark.experiment import Metric
from worker.benchmark.pair_report import draw_pairs
from worker.benchmark.pictures import cluster_pictures, confidence_curves
from worker.benchmark.published_tables import FIGURES
from worker.benchmark.records import Folder, RoundLine
from worker.benchmark.results import Results
from worker.benchmark.statistics import Interval, mean_interval
from worker.benchmark.table import Cell, Table
from worker.benchmark.tables import BELOW

_MOST_NUMBERED = 12  # classes whose numbers can be read in a confusion picture
_STAGES = ("fit", "evaluate", "score", "select")

Drawn = tuple[str, str, Figure]


def draw_all(results: Results, tables: dict[str, Table], folder: Path, class_names: list[str]) -> list[Plot]:
    """Draw every picture of a report and keep each as ``<name>.png`` in the folder."""
    with style():
        figures = [
            *_over_labels(results, tables),
            *_confusions(results, class_names),
            *_pool(results, Folder(folder), class_names),
            ("times", "Mean seconds of a round by stage", _times(tables["times"])),
        ]
        return [save(name, title, figure, folder) for name, title, figure in figures]


def _over_labels(results: Results, tables: dict[str, Table]) -> Iterator[Drawn]:
    accuracy = FIGURES[Metric.TEST_ACCURACY]
    title = "Test accuracy over labels, with 95% bands over seeds"
    yield "accuracy", title, _curves(results, accuracy, "test accuracy", Metric.TEST_ACCURACY)
    if results.compared():
        title = f"Accuracy against {results.experiment.baseline}, paired by seed, with 95% bands"
        yield "difference", title, _differences(results)
    if "rare_class" in tables:
        yield "rare_class", "Recall of the rare class over labels, with 95% bands", _rare(results, tables["rare_class"])
    if "co_training" in tables:
        figure, axes = axes_of(entries=len(results.curves))
        draw_pairs(tables["co_training"], axes, lambda arm: look(results, arm))
        yield "co_training", "Test accuracy of a network over epochs of co-training, with 95% bands", figure
    title = "Test NLL over labels, in nats"
    yield "nll", title, _curves(results, FIGURES[Metric.TEST_NLL], "test NLL [nats]", Metric.TEST_NLL)
    title = "Expected calibration error over labels"
    yield "ece", title, _curves(results, lambda one: one.ece, "calibration error", None)
    title = "Mean entropy of the test predictions over labels, in nats"
    entropy = FIGURES[Metric.MEAN_ENTROPY]
    yield "entropy", title, _curves(results, entropy, "mean entropy [nats]", Metric.MEAN_ENTROPY)


def _curves(results: Results, figure_of: Callable[[RoundLine], float], title: str, metric: Metric | None) -> Figure:
    published = [series for series in results.experiment.published if metric is not None and series.metric is metric]
    figure, axes = axes_of(entries=len(results.curves) + len(published))
    for arm in results.curves:
        labels = results.labels(arm)
        found = [mean_interval(results.at(arm, count, figure_of)) for count in labels]
        if results.experiment.arm(arm).labels == "all":
            shown = f"{arm} ({labels[-1]:,} labels)"
            axes.axhline(found[-1].value, color=look(results, arm)[0], linestyle="--", linewidth=1, label=shown)
        else:
            line(axes, labels, found, shown=look(results, arm), name=arm)
    for series in published:
        colour, name = look(results, series.arm)[0] if series.arm else FAINT, f"{series.series} (published)"
        if series.arm and results.experiment.arm(series.arm).labels == "all":
            axes.axhline(series.values[-1], color=colour, linestyle=":", label=name)
        else:
            shape = {"marker": "x", "markersize": 7, "linestyle": ":", "linewidth": 1}
            axes.plot(series.labels, series.values, color=colour, label=name, **shape)  # type: ignore[arg-type]
    return _labelled(figure, axes, title)


def _differences(results: Results) -> Figure:
    figure, axes = axes_of(entries=len(results.compared()))
    axes.axhline(0, color=INK, linewidth=1)
    axes.axhline(-100 * BELOW, color=INK, linewidth=0.8, linestyle=":")
    for arm in results.compared():
        found = results.differences(arm)
        line(axes, list(found), list(found.values()), shown=look(results, arm), name=arm, scale=100)
    return _labelled(figure, axes, f"points above {results.experiment.baseline}")


def _rare(results: Results, table: Table) -> Figure:
    arms = [arm for arm in results.curves if any(row[0] == arm for row in table.rows)]
    figure, axes = axes_of(entries=len(arms))
    at = {column: place for place, column in enumerate(table.columns)}
    for arm in arms:
        rows = [row for row in table.rows if row[0] == arm]
        labels = [int(row[at["labels"]] or 0) for row in rows]
        found = [Interval(_number(row[at["recall"]]), *_sides(row[at["low"]], row[at["high"]]), 0) for row in rows]
        line(axes, labels, found, shown=look(results, arm), name=arm)
    return _labelled(figure, axes, "recall of the rare class")


def _labelled(figure: Figure, axes: Axes, title: str) -> Figure:
    axes.set_xlabel("labels")
    axes.set_ylabel(title)
    legend(figure, axes)
    return figure


def _confusions(results: Results, class_names: list[str]) -> Iterator[Drawn]:
    for arm in results.curves:
        counts_CC = confusion_of(results, arm)
        if len(counts_CC):
            names = class_names if len(class_names) == len(counts_CC) else [str(at) for at in range(len(counts_CC))]
            title = f"{arm} with {results.labels(arm)[-1]:,} labels: percent of each true class"
            yield f"confusion-{arm}", title, _confusion(counts_CC, names)


def _confusion(counts_CC: np.ndarray, names: list[str]) -> Figure:
    shares_CC = counts_CC / np.maximum(counts_CC.sum(axis=1, keepdims=True), 1)
    figure, axes = axes_of(height=4.2, width=4.4)
    # the root shows the rare mistakes beside the many right ones
    axes.imshow(np.sqrt(shares_CC), vmin=0, vmax=1, cmap="Blues")
    axes.set(xlabel="predicted", ylabel="true")
    axes.grid(visible=False)
    if len(names) > _MOST_NUMBERED:
        return figure
    places = range(len(names))
    turned = 0 if max(map(len, names)) <= 2 else 45
    axes.set_xticks(places, names, rotation=turned, ha="right" if turned else "center")
    axes.set_yticks(places, names)
    for true in places:
        for predicted in places:
            share = shares_CC[true, predicted]
            if counts_CC[true, predicted]:
                text = "100" if share == 1 else f"{100 * share:.1f}" if share >= 0.0005 else "<.1"
                colour = "white" if share > 0.3 else "#202020"
                axes.text(predicted, true, text, ha="center", va="center", fontsize=6.5, color=colour)
    return figure


def _pool(results: Results, folder: Folder, class_names: list[str]) -> Iterator[Drawn]:
    clusters = cluster_pictures(folder)
    if clusters is not None:
        figure = Figure(figsize=(4.8, 2.7), layout="constrained")
        for place, image_HWC in enumerate(clusters.images_KHWC):
            axes = figure.add_subplot(2, 5, place + 1)
            axes.imshow(image_HWC.squeeze(), cmap="gray", vmin=0, vmax=255)
            label = int(clusters.classes_K[place])
            name = class_names[label] if label < len(class_names) else str(label)
            axes.set_title(f"{clusters.sizes_K[place]:,}: {clusters.shares_K[place]:.0%} {name}", fontsize=7)
            axes.axis("off")
        title = (
            f"The pool's ten clusters of pixels: their mean images, sizes and commonest class (seed {clusters.seed})"
        )
        yield "centroids", title, figure
    curves = {arm: confidence_curves(folder, arm, sorted(seeds)) for arm, seeds in results.curves.items()}
    curves = {arm: found for arm, found in curves.items() if found}
    if curves:
        figure, axes = axes_of(entries=2 * len(curves))
        for arm, found in curves.items():
            colour, _ = look(results, arm)
            shares = 100 * found[0].shares_P
            axes.plot(shares, np.mean([one.confidences_P for one in found], axis=0), color=colour, label=arm)
            right = [one.precisions_P for one in found if one.precisions_P is not None and len(one.precisions_P)]
            if right:
                shown = f"{arm}: right so far"
                axes.plot(shares, np.mean(right, axis=0), color=colour, linestyle=":", linewidth=1, label=shown)
        axes.set(xlabel="percent of the unlabelled pool, surest first", ylabel="confidence")
        legend(figure, axes)
        yield "confidences", "Confidence of the whole unlabelled pool after the last round, sorted", figure


def _times(table: Table) -> Figure:
    figure, axes = axes_of(height=0.8 + 0.26 * len(table.rows), entries=len(_STAGES))
    arms = [str(row[0]) for row in table.rows]
    lefts = np.zeros(len(arms))
    for stage, colour in zip(_STAGES, COLOURS, strict=False):
        seconds = np.array([_number(row[table.columns.index(stage)]) for row in table.rows])
        axes.barh(arms, seconds, left=lefts, color=colour, height=0.6, label=stage)
        lefts += seconds
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("seconds a round")
    legend(figure, axes)
    return figure


def _number(cell: Cell) -> float:
    return float(cell or 0)


def _sides(low: Cell, high: Cell) -> tuple[float | None, float | None]:
    return (None, None) if low is None or high is None else (float(low), float(high))
