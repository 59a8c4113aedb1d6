"""How pictures of a report look: colours that follow light and dark, sizes, and how a figure becomes PNG and SVG."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from worker.benchmark.results import Results
from worker.benchmark.statistics import Interval

INK = "#1f2328"
FAINT = "#6e7781"
# Told apart by people who see colours otherwise, too (Okabe and Ito 2008); markers repeat more slowly than colours.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", INK, "#8b6914")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h")
# In the report's SVG each colour is a variable, so that the page's style can give it another value in the dark.
_VARIABLES = {INK: "--ink", FAINT: "--quiet"} | {
    colour: f"--arm-{place}" for place, colour in enumerate(COLOURS) if colour != INK
}
_STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.titlesize": 9.0,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.hashsalt": "querent",
    "svg.fonttype": "none",
}
_WIDTH = 4.8  # inches; on a narrow phone its letters are still readable
_LEGEND_COLUMNS = 2
_BAND_ROOM = 0.5  # of the height of all lines, above and below them


@dataclass(frozen=True)
class Plot:
    """One picture, and what it says to those who do not see it."""

    name: str
    title: str
    svg: str


@contextmanager
def style() -> Iterator[None]:
    """Draw in the report's style within the block."""
    with matplotlib.rc_context(_STYLE):
        yield


def save(name: str, title: str, figure: Figure, folder: Path) -> Plot:
    """Write a figure as ``<name>.png`` on white, and return it as SVG on nothing, in the page's colours."""
    figure.savefig(folder / f"{name}.png", dpi=144, metadata={"Software": None}, facecolor="white")
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, facecolor="none")
    svg = text.getvalue()[text.getvalue().index("<svg") :]
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(f": {colour}", f": var({variable})")
    return Plot(name, title, svg)


def axes_of(height: float = 3.0, entries: int = 0, width: float = _WIDTH) -> tuple[Figure, Axes]:
    """Return a figure of one set of axes, with room below it for a legend of so many entries."""
    lines = -(-entries // _LEGEND_COLUMNS)
    figure = Figure(figsize=(width, height + 0.2 * lines), layout="constrained")
    return figure, figure.add_subplot()


def look(results: Results, arm: str) -> tuple[str, str]:
    """Return an arm's colour and marker, the same in every picture."""
    place = [known.name for known in results.experiment.arms].index(arm)
    return COLOURS[place % len(COLOURS)], _MARKERS[place % len(_MARKERS)]


def line(
    axes: Axes, labels: list[int], found: list[Interval], *, shown: tuple[str, str], name: str, scale: float = 1.0
) -> None:
    """Draw means over labels with their interval as a band."""
    colour, marker = shown
    means = [scale * one.value for one in found]
    every = max(1, len(labels) // 10)
    axes.plot(labels, means, color=colour, marker=marker, markevery=every, markersize=4, linewidth=1.3, label=name)
    low, high = (
        np.array([np.nan if (at := getattr(one, side)) is None else scale * at for one in found])
        for side in ("low", "high")
    )
    axes.fill_between(labels, low, high, color=colour, alpha=0.15, linewidth=0)


def legend(figure: Figure, axes: Axes) -> None:
    """Put the legend below the axes, where it hides nothing, and let no wide band flatten the lines."""
    drawn = np.concatenate([np.asarray(one.get_ydata(), float) for one in axes.get_lines()] or [np.empty(0)])
    if len(drawn):
        room = _BAND_ROOM * max(float(np.ptp(drawn)), 1e-9)
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(bottom, drawn.min() - room), min(top, drawn.max() + room))
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=_LEGEND_COLUMNS, fontsize=8.5)
