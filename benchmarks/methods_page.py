"""What benchmarks/methods.py found, as tables, a picture and a page."""

import math
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.page import Table, spread, wrapped
from benchmarks.panels import PAPER, curve, saved
from benchmarks.runs import Record
from benchmarks.ways import DEFAULT, WAYS

LABELS = {way.name: way.label for way in WAYS} | {"teacher": "teacher, not grown"}
NAMED = {"sgd": "SGD", "adam": "Adam"}
LAST = 4  # evaluations whose mean is the figure at the end: at a constant rate one alone is noisy
SPIKE = 50  # first steps in which the highest training loss is sought
Run = dict[str, Any]


class Found:
    """The runs of a record, by what was varied."""

    def __init__(self, record: Record) -> None:
        self.settings = record.settings
        self._runs = {tuple(name.split(" ")): run for name, run in record.runs.items()}  # (optimizer, rate, way, seed)
        self.conditions = [
            (name, f"{rate:g}") for name, rates in record.settings["rates"].items() for rate in reversed(rates)
        ]
        self.seeds = sorted({int(key[3]) for key in self._runs})

    def of(self, condition: tuple[str, str], way: str) -> list[Run]:
        """The runs of one way, a seed each."""
        return [self._runs[key] for seed in self.seeds if (key := (*condition, way, str(seed))) in self._runs]

    def title(self, condition: tuple[str, str]) -> str:
        first, last = (f"{rate:g}" for rate in self.settings["rates"][condition[0]])
        whose = {last: "the teacher's last", first: "the teacher's first"}[condition[1]]
        return f"{NAMED[condition[0]]}, rate {condition[1]} ({whose})"

    def minus_default(self, condition: tuple[str, str], way: str, of: Callable[[Run], float]) -> list[float]:
        """A figure minus that of the default with the same seed."""
        return [
            of(run) - of(other) for run, other in zip(self.of(condition, way), self.of(condition, DEFAULT), strict=True)
        ]


def at_end(run: Run, what: str) -> float:
    """The mean over the last evaluations."""
    return statistics.fmean(found[what] for found in run["evaluations"][-LAST:])


def test_loss(run: Run) -> float:
    return at_end(run, "loss")


def training_loss(run: Run) -> float:
    """The mean over the last 100 steps."""
    return statistics.fmean(run["windows"][-10:])


def at(run: Run, step: int, what: str) -> float:
    """After the last evaluated step up to this one."""
    return [found[what] for found in run["evaluations"] if found["step"] <= step][-1]


def spike(run: Run) -> float:
    """The highest training loss soon after growth, of 10 steps each, above the teacher's last."""
    return max(run["windows"][: SPIKE // 10]) - run["before"]


def reached(runs: Iterable[tuple[Run, float]]) -> str:
    """The first evaluated step with an accuracy: the mean, and how many runs got there if not all."""
    pairs = list(runs)
    firsts = [next((e["step"] for e in run["evaluations"] if e["accuracy"] >= target), None) for run, target in pairs]
    there = [step for step in firsts if step is not None]
    if not there:
        return "never"
    return f"{statistics.fmean(there):.0f}" + ("" if len(there) == len(pairs) else f" ({len(there)} of {len(pairs)})")


# -- tables ----------------------------------------------------------------------------------------


def tables(record: Record) -> list[Table]:
    """All of them."""
    found = Found(record)
    test = f"The mean of the last {LAST} evaluations."
    ends = [
        _differences(found, "Test loss", test, test_loss),
        _differences(found, "Training loss", "The mean of the last 100 steps.", training_loss),
    ]
    return [*ends, _right_after(found), *(_course(found, c) for c in found.conditions), _speed(found)]


def _rows(table: Table, cells: Callable[[str], Iterable[str]]) -> Table:
    table.rows += [(label, *cells(way)) for way, label in LABELS.items()]
    return table


def _differences(found: Found, title: str, remark: str, of: Callable[[Run], float]) -> Table:
    heads = [f"{NAMED[optimizer]} {rate}" for optimizer, rate in found.conditions]
    table = Table(f"{title} at the end, minus that of the default", ("", *heads))
    table.remarks.append(
        f"{remark} Differences with the same seed, teacher and batches, mean ± standard deviation over "
        f"{len(found.seeds)} seeds; above zero: worse than the default."
    )
    return _rows(table, lambda way: [spread(found.minus_default(c, way, of), "+.3f") for c in found.conditions])


def verdict(found: Found) -> list[str]:
    """For each condition, which exact way has the lowest loss at the end, and whether the default is tied with it."""
    lines = []
    for condition in found.conditions:
        says = [
            f"{name} loss: {_best(found, condition, of)}"
            for name, of in (("test", test_loss), ("training", training_loss))
        ]
        lines.append(f"- {found.title(condition)}: {'; '.join(says)}.")
    return lines


def _best(found: Found, condition: tuple[str, str], of: Callable[[Run], float]) -> str:
    differences = {way.name: found.minus_default(condition, way.name, of) for way in WAYS if way.exact}
    best = min(differences, key=lambda name: statistics.fmean(differences[name]))
    if best == DEFAULT:
        return "the default"
    values = differences[best]
    if len(values) == 1:
        return f"{LABELS[best]}, {spread(values, '+.3f')}"
    apart = abs(statistics.fmean(values)) > statistics.stdev(values)
    return f"{LABELS[best]}, {spread(values, '+.3f')} ({'beyond' if apart else 'within'} the spread)"


def _right_after(found: Found) -> Table:
    head = ["", "relative error"]
    conditions = [c for c in found.conditions if c[1] == f"{found.settings['rates'][c[0]][-1]:g}"]
    for optimizer, _ in conditions:
        head += [f"{NAMED[optimizer]}: changed", "accuracy"]
    table = Table("Right after growth", tuple(head))

    def cells(way: str) -> Iterable[str]:
        yield f"{max(run['error'] for c in conditions for run in found.of(c, way)):.0e}"
        for condition in conditions:
            runs = found.of(condition, way)
            yield " ".join(str(run["changed"]) for run in runs)
            yield spread([run["evaluations"][0]["accuracy"] for run in runs], ".2f")

    table.remarks.append(
        f"changed: of the {found.settings['test']} test images, how many get another class than from the teacher, for "
        "each seed; relative error: of the scores in float32, at most; accuracy in percent."
    )
    return _rows(table, cells)


def _course(found: Found, condition: tuple[str, str]) -> Table:
    steps = found.settings["steps"]
    early, later = (math.ceil(steps * part) for part in (0.1, 0.3))
    head = (
        "", "spike", f"distance at {early}", "at the end", f"test loss at {early}", f"at {later}", "at the end",
        "training loss", "accuracy",
    )  # fmt: skip
    table = Table(found.title(condition), head)

    def cells(way: str) -> Iterable[str]:
        runs = found.of(condition, way)
        yield spread([spike(run) for run in runs], "+.2f")
        watched = [run for run in runs if "distance" in run["evaluations"][0]]
        yield spread([at(run, early, "distance") for run in watched], ".2g")
        yield spread([at(run, steps, "distance") for run in watched], ".2g")
        for step in (early, later):
            yield spread([at(run, step, "loss") for run in runs])
        yield spread([test_loss(run) for run in runs])
        yield spread([training_loss(run) for run in runs])
        yield spread([at_end(run, "accuracy") for run in runs], ".2f")

    return _rows(table, cells)


def _speed(found: Found) -> Table:
    heads = [f"{NAMED[c[0]]} {c[1]}: {whose}" for c in found.conditions for whose in ("teacher's", "scratch's")]
    table = Table("Steps to an accuracy", ("", *heads))

    def cells(way: str) -> Iterable[str]:
        for condition in found.conditions:
            runs = found.of(condition, way)
            teachers = [run["evaluations"][0]["accuracy"] for run in found.of(condition, "teacher")]
            yield reached(zip(runs, teachers, strict=True))
            yield reached(zip(runs, [at_end(run, "accuracy") for run in found.of(condition, "scratch")], strict=True))

    table.remarks.append(
        "The first evaluated step (10, 25, then every 50) with at least the accuracy of the teacher at growth, and of "
        f"the scratch net at the end (mean of its last {LAST} evaluations); the mean over the seeds that get there."
    )
    return _rows(table, cells)


# -- the picture -----------------------------------------------------------------------------------

LOOK = {  # exact ways in full lines, the others dashed
    "split": ("#0b5fa5", "-"), "scalar": ("#5aa9e6", "-"), "even": ("#d1495b", "-"), "zero_out": ("#2e9e6b", "-"),
    "noise_keras": ("#e39a2d", "--"), "noise_pytorch": ("#b3731a", "--"), "notebook": ("#8f5bb5", "--"),
    "random_pad": ("#c08bd6", "--"), "random_init": ("#8c8c8c", "--"), "scratch": ("#222222", ":"),
    "teacher": ("#b08d57", ":"),
}  # fmt: skip


def draw(record: Record, path: Path) -> None:
    """Test loss after growth, at the teacher's last rates and at its first, and the distance of replicas."""
    found = Found(record)
    rows = [[c for c in found.conditions if c[1] == f"{found.settings['rates'][c[0]][at]:g}"] for at in (-1, 0)]
    with matplotlib.rc_context(PAPER):
        figure = Figure((7.2, 5.0), layout="constrained")
        axes = figure.subplots(2, len(rows[0]) + 1)
        for row, conditions in zip(axes, rows, strict=True):
            for axis, condition in zip(row, conditions, strict=False):
                _losses(axis, found, condition)
        _distances(axes[0][-1], found, rows[0])
        axes[1][-1].set_axis_off()
        handles, labels = axes[0][0].get_legend_handles_labels()
        axes[1][-1].legend(handles, labels, loc="center", frameon=False)
        saved(figure, path)


def _losses(axis: Axes, found: Found, condition: tuple[str, str]) -> None:
    for way in LABELS:
        _line(axis, found.of(condition, way), way, "loss", band=way == "scratch")
    starts = [found.of(condition, way)[0]["evaluations"][0]["loss"] for way in (DEFAULT, "teacher")]
    ends = [test_loss(run) for way in LABELS for run in found.of(condition, way)]
    limits = (min(ends) * 0.93, 1.7 * max(starts))
    axis.set(yscale="log", ylim=limits, xlabel="steps after growth", ylabel="test loss")
    axis.set_title(f"{NAMED[condition[0]]}, rate {condition[1]}")
    _plain(axis)


def _distances(axis: Axes, found: Found, conditions: list[tuple[str, str]]) -> None:
    marks = ("(full)", "(dotted)")
    for condition, style in zip(conditions, ("-", (0, (1, 1))), strict=False):
        for way in (way for way in WAYS if way.replicas):
            _line(axis, found.of(condition, way.name), way.name, "distance", style=style, floor=1e-8)
    axis.set(yscale="log", ylim=(5e-9, 3), xlabel="steps after growth", ylabel="distance of replicas")
    axis.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axis.set_title(" · ".join(f"{NAMED[c[0]]} {mark}" for c, mark in zip(conditions, marks, strict=False)))


def _line(
    axis: Axes, runs: list[Run], way: str, what: str, *, band: bool = False, style: Any = None, floor: float = 0.0
) -> None:
    if not runs:
        return
    color, usual = LOOK[way]
    steps = [found["step"] for found in runs[0]["evaluations"]]
    values = [[max(floor, found[what]) for found in run["evaluations"]] for run in runs]
    curve(axis, steps, values, color=color, style=usual if style is None else style, label=LABELS[way], band=band)


def _plain(axis: Axes) -> None:
    """A logarithmic axis of less than a decade, with its numbers written out."""
    axis.yaxis.set_major_locator(matplotlib.ticker.LogLocator(base=10, subs=(1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8)))
    axis.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axis.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())


# -- the page --------------------------------------------------------------------------------------


def write_markdown(path: Path, record: Record, found: list[Table], picture: Path, command: str) -> None:
    """The page of documentation."""
    of, runs = record.settings, Found(record)
    rates = "; ".join(f"{NAMED[name]} {first:g}, then {last:g}" for name, (first, last) in of["rates"].items())
    width = of["width"]
    text = [
        "# What the methods are worth",
        "",
        "Made by a script, not by hand:",
        "",
        f"    {command}",
        "",
        f"{record.machine}; {len(runs.seeds)} seeds.",
        "",
        *wrapped(f"""
            The data: {of["data"]}, {of["train"]:,} images to train on and {of["test"]:,} to test on. The
            teacher: three convolutions and two linear layers {"with" if of["norm"] else "without"} batch norms,
            {width}, {2 * width}, {2 * width} and {4 * width} channels; {of["teacher_steps"]:,} steps of
            {of["batch"]} images, two thirds of them at the first rate ({rates}). Students are {of["factor"]:g}
            times as wide, and train for {of["steps"]:,} steps at one constant rate with a new optimizer (SGD
            with momentum 0.9, or Adam). [benchmarks/ways.py](../benchmarks/ways.py) says what each way does;
            fxgrow's default, "auto", is *zero out* for every width of this net, and *split* where fresh channels
            would not be exact. *even + noise* is what two public notebooks add to equal shares, *PyTorch
            notebook* one of them with its default options. Figures are mean ± standard deviation over the seeds.
        """),
        "",
        f"![Test loss after growth, and the distance of replicas](pictures/{picture.name})",
        "",
        "Means over the seeds; the grey band is one standard deviation of *scratch* to each side.",
        "",
        "The lowest of the exact ways at the end, against the default:",
        "",
        *verdict(runs),
        "",
        "*spike*: the highest training loss within 50 steps, as the mean of 10, minus the teacher's last. *distance*:",
        "of the outputs of new channels from those of the channels that they copy, 0 for the same and about 1.4 for",
        "independent ones.",
    ]
    for table in found:
        text += ["", *table.lines()]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
