"""How the benchmarks' figures look: small, for a column of a paper."""

import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

PAPER: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "legend.fontsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
}


def curve(
    axis: Axes,
    xs: Sequence[float],
    runs: Sequence[Sequence[float]],
    *,
    color: str,
    label: str,
    style: Any = "-",
    band: bool = True,
) -> None:
    """The mean of several runs, with a band of one standard deviation to each side."""
    means = [statistics.fmean(values) for values in zip(*runs, strict=True)]
    axis.plot(xs, means, color=color, linestyle=style, label=label)
    if band and len(runs) > 1:
        sides = [statistics.stdev(values) for values in zip(*runs, strict=True)]
        low = [mean - side for mean, side in zip(means, sides, strict=True)]
        high = [mean + side for mean, side in zip(means, sides, strict=True)]
        axis.fill_between(xs, low, high, color=color, alpha=0.15, linewidth=0)


def saved(figure: Figure, path: Path) -> None:
    """Write it as a PNG of 256 colours, which is a third of the size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=200)
    Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
