"""Learning curves: the mean over the seeds and a band around it, legible in colour and in grey."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator


@dataclass(frozen=True, slots=True)
class Style:
    """How a curve looks: no two have the same line and marker, for where all is grey."""

    color: str
    line: str
    marker: str


# The colours of Okabe and Ito, which colour-blind readers tell apart.
STYLES = (
    Style("#000000", "-", "o"),
    Style("#0072B2", "-", "s"),
    Style("#D55E00", "-", "^"),
    Style("#56B4E9", "--", "D"),
    Style("#E69F00", "--", "v"),
    Style("#009E73", "-.", "P"),
    Style("#CC79A7", ":", "X"),
)
PAPER: dict[Any, object] = {
    "font.family": "serif",
    "font.serif": ["STIXGeneral"],  # ships with matplotlib
    "mathtext.fontset": "stix",
    "font.size": 9,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "grid.color": "0.88",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "savefig.dpi": 200,
}
MARKERS = 10  # markers on a curve, at most


@dataclass(frozen=True, slots=True)
class Curve:
    """What several seeds gave: the points x, and for each seed the values there."""

    label: str
    x: tuple[float, ...]
    seeds: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """Axes with some curves; what lies outside `y_range` is cut off."""

    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    y_range: tuple[float, float] | None = None
    title: str = ""
    whole_x: bool = False  # ticks at whole numbers only (epochs)


def save(panels: Sequence[Panel], path: Path, *, styles: Mapping[str, int] | None = None) -> Path:
    """Draw the panels side by side, with one legend below them.

    Args:
        panels: a label has one colour in all of them.
        path: a .png, .pdf or .svg.
        styles: which of STYLES a label has; None: in the order in which they come.
    """
    labels = list(dict.fromkeys(curve.label for panel in panels for curve in panel.curves))
    number = styles if styles is not None else {label: i for i, label in enumerate(labels)}
    with mpl.rc_context(PAPER):
        figure = Figure(figsize=(3.4 * len(panels), 2.6 + 0.2 * math.ceil(len(labels) / 3)), layout="constrained")
        FigureCanvasAgg(figure)
        handles: dict[str, Line2D] = {}
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            for curve in panel.curves:
                handles[curve.label] = _draw(axes, curve, STYLES[number[curve.label] % len(STYLES)])
            axes.set(xlabel=panel.x_label, ylabel=panel.y_label, title=panel.title)
            if panel.whole_x:
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if panel.y_range is not None:
                axes.set_ylim(*panel.y_range)
        figure.legend(
            [handles[label] for label in labels], labels, loc="outside lower center", ncols=min(3, len(labels))
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    return path


def _draw(axes: Axes, curve: Curve, style: Style) -> Line2D:
    """One curve: its mean, and a band of one standard deviation around it."""
    points = list(zip(*curve.seeds, strict=True))
    middle = [fmean(values) for values in points]
    (line,) = axes.plot(
        curve.x,
        middle,
        color=style.color,
        linestyle=style.line,
        marker=style.marker,
        markersize=3.5,
        markevery=max(1, math.ceil(len(points) / MARKERS)),
        linewidth=1.2,
    )
    if len(curve.seeds) > 1:
        around = [stdev(values) for values in points]
        low = [m - a for m, a in zip(middle, around, strict=True)]
        high = [m + a for m, a in zip(middle, around, strict=True)]
        axes.fill_between(curve.x, low, high, color=style.color, alpha=0.15, linewidth=0)
    return line
