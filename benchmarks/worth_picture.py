"""The curves of benchmarks/worth.py: the final loss over FLOPs and over seconds, with the fixed sizes' envelope."""

import itertools
import math
import statistics
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.panels import PAPER, saved
from benchmarks.worth_analysis import Part
from benchmarks.worth_fit import envelope, fitted

FIXED = {
    "scratch": ("-", "o"),
    "narrow": ("--", "s"),
    "shallow": ("-.", "^"),
    "small": (":", "D"),
    "middle": ((0, (5, 1)), "v"),
}
COLORS = ("#0b5fa5", "#d1495b", "#2a9d4a", "#e08a1e", "#7b4fa3", "#1aa6a6", "#a3532b", "#d64fa0")
SHOWN = len(COLORS)  # methods that grow, at most


def draw(parts: list[Part], path: Path) -> None:
    """A row for each track."""
    with matplotlib.rc_context(PAPER):
        figure = Figure((6.8, 3.4 * len(parts)), layout="constrained")
        rows = figure.subfigures(len(parts), 1, squeeze=False)[:, 0]
        for row, part in zip(rows, parts, strict=True):
            axes: list[Axes] = list(row.subplots(1, 2, sharey=True))
            _over(axes[0], part, "flops", 1e12)
            _over(axes[1], part, "seconds", 1.0)
            axes[0].set(xlabel="FLOPs, forward and backward (10¹²)", ylabel=f"{part.of.track}: final test loss")
            axes[1].set(xlabel="seconds of training and growing")
            handles, labels = axes[0].get_legend_handles_labels()
            row.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        saved(figure, path)


def shown(part: Part) -> list[str]:
    """The methods that are drawn: those that decide most first, of them those with the lowest last losses."""
    names = [name for name in part.grown() if not part.methods[name].is_baseline]

    def rank(name: str) -> tuple[int, float]:
        measured = _means(part, name, "flops")
        return part.methods[name].tier, measured[-1][1] if measured else math.inf

    return sorted(names, key=rank)[:SHOWN]


def _means(part: Part, name: str, what: str) -> list[tuple[float, float]]:
    """What was spent and the loss, a point for each budget: means over all seeds that a method has there."""
    found = []
    for budget in part.measured(name):
        runs, losses = part.runs(name, budget), part.losses(name, budget)
        found.append((statistics.fmean(runs[seed][what] for seed in losses), statistics.fmean(losses.values())))
    return found


def _over(axis: Axes, part: Part, what: str, unit: float) -> None:
    """Final losses over what was spent."""
    curves = []
    for name in part.fixed():
        measured = _means(part, name, what)
        if (curve := fitted(measured)) is not None:
            curves.append(curve)
        if name in FIXED:
            line, marker = FIXED[name]
            style = {"color": "#222222", "linestyle": line, "marker": marker, "markersize": 3.5}
            _line(axis, measured, unit, label=part.methods[name].title, **style)
    if curves:
        spent = np.geomspace(min(c.low for c in curves), max(c.high for c in curves), 400)
        lowest = (envelope(curves, float(x)) for x in spent)
        losses = list(itertools.accumulate(lowest, min))  # who may spend more can stop sooner
        axis.plot(
            spent / unit, losses, color="#f2c94c", linewidth=5, alpha=0.6, zorder=0, label="envelope of all sizes"
        )
    for name, color in zip(shown(part), COLORS, strict=False):
        measured = _means(part, name, what)
        _line(axis, measured, unit, color=color, label=part.methods[name].title)
    axis.set_xscale("log")
    low, high = axis.get_xlim()
    if high < 2 * low:  # one budget so far: do not enlarge what rounding to steps makes of it
        axis.set_xlim(low / 1.5, high * 1.5)
    axis.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axis.xaxis.set_major_locator(matplotlib.ticker.LogLocator(base=10, subs=(1, 2, 3, 5, 7)))
    axis.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())


def _line(axis: Axes, measured: list[tuple[float, float]], unit: float, **style: object) -> None:
    finite = [(x / unit, y) for x, y in measured if math.isfinite(y)]
    axis.plot([x for x, _ in finite], [y for _, y in finite], **{"marker": "o", "markersize": 3, **style})  # type: ignore[arg-type]
