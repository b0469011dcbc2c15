"""What benchmarks/curriculum.py found, as a table, a picture and a page."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.page import Table, spread, wrapped
from benchmarks.panels import PAPER, curve, saved
from benchmarks.runs import Record

COLORS = {"scratch": "#222222", "2 nets": "#5aa9e6", "3 nets": "#0b5fa5", "4 nets": "#d1495b"}
REPLICAS = {f"{name}, replicas": color for name, color in COLORS.items() if name != "scratch"}  # dotted
Run = dict[str, Any]


def runs_of(record: Record, name: str) -> list[Run]:
    """The runs of one curriculum, a seed each."""
    found = {int(key.split("/")[1]): run for key, run in record.runs.items() if key.split("/")[0] == name}
    return [found[seed] for seed in sorted(found)]


def label(run: Run) -> str:
    """The nets of a curriculum: widths, with their blocks where these change."""
    nets = run["nets"]
    several = len({net["blocks"] for net in nets}) > 1
    return " → ".join(f"{net['width']}" + (f"·{net['blocks']}" if several else "") for net in nets)


def last(what: str) -> Callable[[Run], float]:
    """A figure at the end of a run."""
    return lambda run: run["points"][-1][what]


def part_needed(run: Run, target: float, what: str) -> float | None:
    """What was spent when an accuracy was reached for good: at this point and all later ones."""
    points = run["points"]
    below = [i for i, point in enumerate(points) if point["accuracy"] < target]
    first = below[-1] + 1 if below else 0
    return points[first][what] if first < len(points) else None


def needed(runs: list[Run], scratch: list[Run], what: str) -> str:
    """How much of what training from scratch takes is needed for its accuracy at the end, in percent."""
    pairs = [(part_needed(r, last("accuracy")(s), what), last(what)(s)) for r, s in zip(runs, scratch, strict=True)]
    there = [100 * spent / whole for spent, whole in pairs if spent is not None]
    if not there:
        return "never"
    return f"{spread(there, '.0f')} %" + ("" if len(there) == len(pairs) else f" ({len(there)} of {len(pairs)})")


def table(record: Record) -> Table:
    """A row for each curriculum."""
    head = (
        "", "nets", "images", "accuracy", "minus scratch", "loss", "minus scratch", "FLOPs for scratch's accuracy",
        "seconds", "seconds for it", "changed by growing",
    )  # fmt: skip
    found = Table("At the end of the budget", head)
    scratch = runs_of(record, "scratch")
    for name in (*COLORS, *REPLICAS):
        runs = runs_of(record, name)[: len(scratch)]
        if not runs:
            continue
        images = sum(net["steps"] for net in runs[0]["nets"]) * record.settings["batch"]
        cells = [name, label(runs[0]), f"{images:,}"]
        for what, form in (("accuracy", ".2f"), ("loss", ".3f")):
            values = [last(what)(run) for run in runs]
            cells.append(spread(values, form))
            differences = [value - last(what)(other) for value, other in zip(values, scratch, strict=False)]
            cells.append("" if name == "scratch" else spread(differences, "+" + form))
        cells.append(needed(runs, scratch[: len(runs)], "flops"))
        cells.append(spread([run["seconds"] for run in runs], ".0f"))
        cells.append(needed(runs, scratch[: len(runs)], "seconds"))
        cells.append(str(max((growth["changed"] for run in runs for growth in run["growths"]), default="")))
        found.rows.append(tuple(cells))
    found.remarks.append(
        "nets: channels of the first stage, and after the dot blocks in each stage. accuracy in percent, loss: of the "
        "test images. FLOPs, seconds for scratch's accuracy: when it was reached for good, as a part of what scratch "
        "took in all. changed: the most test images that got another class by one growth."
    )
    return found


# -- the picture -----------------------------------------------------------------------------------


def draw(record: Record, path: Path) -> None:
    """Test error over FLOPs and over seconds."""
    with matplotlib.rc_context(PAPER):
        figure = Figure((6.4, 2.9), layout="constrained")
        axes: list[Axes] = list(figure.subplots(1, 2, sharey=True))
        for axis, what, unit in zip(axes, ("flops", "seconds"), (1e12, 1.0), strict=True):
            for name, color in COLORS.items():
                runs = runs_of(record, name)
                if runs:
                    text = f"{name}: {label(runs[0])}" if len(runs[0]["nets"]) > 1 else name
                    _curve(axis, runs, what, unit, text, color=color)
            for name, color in REPLICAS.items():
                if what == "flops" and (runs := runs_of(record, name)):
                    _curve(axis, runs, what, unit, name, color=color, style=":", band=False)
            axis.set_xlim(left=0)
        axes[0].set(xlabel="FLOPs, forward and backward (10¹²)", ylabel="test error (%)", yscale="log")
        axes[1].set(xlabel="seconds of training")
        axes[0].yaxis.set_major_locator(matplotlib.ticker.LogLocator(base=10, subs=(1, 1.5, 2, 3, 5, 7)))
        axes[0].yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        axes[0].yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        saved(figure, path)


def _curve(axis: Axes, runs: list[Run], what: str, unit: float, text: str, *, color: str, **style: Any) -> None:
    """Errors over the mean of what was spent; where nets begin there is a dot."""
    xs = [
        statistics.fmean(values) / unit
        for values in zip(*([p[what] for p in run["points"]] for run in runs), strict=True)
    ]
    errors = [[100 - point["accuracy"] for point in run["points"]] for run in runs]
    curve(axis, xs, errors, color=color, label=text, **style)
    growths = list(zip(*(run["growths"] for run in runs), strict=True)) if style.get("style", "-") == "-" else []
    dots = [[statistics.fmean(growth[key] for growth in same) for key in (what, "accuracy")] for same in growths]
    axis.plot([x / unit for x, _ in dots], [100 - y for _, y in dots], "o", color=color, markersize=3.5)


# -- the page --------------------------------------------------------------------------------------

LIMITS = """\
## What this does not show

This page does not show that growing saves computation.

- **A control is missing: the small net alone, with the same FLOPs.** At a budget that is too small for the wide net, a
  narrow net that is never grown may end as low as the grown one. Nothing on this page rules that out.
- **"FLOPs for scratch's accuracy" is read off a curve whose rate has not come down.** There is one cosine over the
  whole budget, so a grown net reaches that accuracy before its own run is annealed, while scratch's accuracy is that of
  an annealed net. A run that was annealed over the smaller budget may end higher or lower.

[worth.md](worth.md) measures with this control, by benchmarks/worth.py. An earlier experiment had it as well:
Fashion-MNIST, a ResNet-20 of 8 channels, each run annealed over its own budget, two seeds. The best curriculum trained
the half-width net for 80 % of the FLOPs, then grew it to the full width. Test loss of the two seeds:

| FLOPs | half-width net, never grown | best curriculum | full width from scratch, with twice these FLOPs |
| --- | --- | --- | --- |
| half of one epoch's | .3286, .3269 | .3272, .3347 | .322 |
| half of four epochs' | .2499, .2558 | .2551, .2610 | .240 |

At the same FLOPs, the half-width net that was never grown ended lower than the best curriculum, on the mean of the two
seeds: by .003 at the smaller budget and by .005 at the larger. It ended lower in three of the four pairs.
"""


def write_markdown(path: Path, record: Record, found: Table, picture: Path, command: str) -> None:
    """The page of documentation."""
    of, width = record.settings, record.settings["width"]
    precision = ", in bfloat16 by autocast" if of["amp"] else ""
    flops = statistics.fmean(last("flops")(run) for run in runs_of(record, "scratch"))
    text = [
        "# From scratch, or grown?",
        "",
        "Made by a script, not by hand:",
        "",
        f"    {command}",
        "",
        f"{record.machine}; {len(runs_of(record, 'scratch'))} seeds.",
        "",
        *wrapped(f"""
            One budget of computation, spent on a ResNet-20 of {width}, {2 * width} and {
            4 * width
        } channels: from scratch, or grown into from narrower and shallower nets by `fxgrow.grow`, with its
            default, which fills new channels with fresh weights here, or with replicas ("split"). The
            budget is what the net alone needs for {of["images"]:,} images: {flops:.3g} FLOPs, forward and
            backward, by torch's counter. The last net gets {100 * of["final"]:g} % of it; the others share the
            rest, with equally many images each. The data: {of["data"]}, {of["train"]:,} images to train on and
            {of["test"]:,} to test on. All train by SGD (batches of {of["batch"]}, momentum 0.9, weight decay
            5e-4), with one warmup and one cosine over the whole budget (highest rate {of["rate"]:g}), and a new
            optimizer at each growth{precision}. Seconds are processor time of training and growing, without evaluation.
            Mean ± standard deviation over the seeds; differences are between runs with the same seed.
        """),
        "",
        f"![Test error over FLOPs and over seconds](pictures/{picture.name})",
        "",
        "A dot is where the next net begins. Replicas are dotted, and shown over FLOPs only.",
        "",
        *found.lines(),
        "",
        *LIMITS.splitlines(),
    ]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
