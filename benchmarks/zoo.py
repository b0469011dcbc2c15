"""Grow every model of a zoo and compare it with what it was.

    python benchmarks/zoo.py --zoo torchvision --models "resnet*" --factors 1.5 2.0 --csv zoo.csv

For each model and factor: whether it traces, the share of convolution and linear weights whose shape
changed, what stayed and why, the largest relative error of the outputs in eval and in train mode, and the
seconds that `fxgrow.grow` took. Errors are computed here, in float64, with randomised statistics and affine
weights and dropout off, without `fxgrow.verify`. Models above --limit-params are grown on the meta device,
where only shapes can be compared.

The exit status is 1 if a model fails, an error exceeds 1e-10, or a share is below 95 %.
"""

import argparse
import collections
import csv
import dataclasses
import fnmatch
import gc
import math
import platform
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fxgrow
from benchmarks.zoos import ZOOS, Entry
from tests.check import NoRandomness, given, grown, randomise, relative_error, run

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/zoo.py --zoo torchvision --csv zoo.csv --markdown docs/zoo.md"
TOLERANCE = 1e-10
SHARE = 0.95
GROWABLE = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


@dataclass(slots=True)
class Row:
    """What one model at one factor gave."""

    zoo: str
    model: str
    factor: float
    parameters: int = 0
    parameters_grown: int = 0
    traced: str = ""  # "yes", or the exception that says why not
    nodes: int = 0
    weights: int = 0
    weights_grown: int = 0
    error_eval: float | None = None
    error_train: float | None = None
    sensitivity: float | None = None  # how far the outputs depend on the inputs at all
    shapes: str = ""  # "equal" or "differ", where that is all that can be compared
    seconds: float = 0.0
    failure: str = ""
    pins: str = ""  # "name: reason" of all widths that stayed, one a line
    notes: str = ""

    @property
    def share(self) -> float:
        """The share of convolution and linear weights whose shape changed."""
        return self.weights_grown / self.weights if self.weights else 0.0

    @property
    def error(self) -> str:
        """The larger error, as the tables show it."""
        if self.failure:
            return "failed"
        if self.shapes:
            return f"shapes {self.shapes}"
        return f"{max(self.error_eval or 0, self.error_train or 0):.1e}"

    @property
    def passed(self) -> bool:
        """Whether this counts as right."""
        errors = [e for e in (self.error_eval, self.error_train) if e is not None]
        # "not <=" rather than ">": a NaN must not pass.
        exact = all(e <= TOLERANCE for e in errors) if errors else self.shapes == "equal"
        return not self.failure and exact and self.share >= SHARE

    @property
    def top_pins(self) -> str:
        """The three commonest reasons, names and numbers left out."""
        reasons = (re.sub(r'"[^"]*"|\d+', "…", line.split(": ", 1)[-1]) for line in self.pins.splitlines())
        return "; ".join(f"{n}x {reason}" for reason, n in collections.Counter(reasons).most_common(3))


def describe(error: BaseException) -> str:
    """The exception's type, its message, and the last line of code that it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" [{Path(frames[-1].filename).name}:{frames[-1].lineno}]" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}{place}"


def attempt(action: Callable[[], Any]) -> tuple[Any, str]:
    """The result, or None and why there is none: one model's crash must not stop the others."""
    try:
        return action(), ""
    except Exception as error:  # noqa: BLE001 (whatever a model or the growth of it may raise)
        return None, describe(error)


def sensitivity(outputs: Sequence[Tensor]) -> float:
    """How far the outputs for two samples differ, relative to their size: near 0, errors say nothing."""
    first = outputs[0]
    return float((first[0] - first[1]).abs().max() / first.abs().max()) if len(first) > 1 else math.nan


def parameters(model: nn.Module) -> int:
    """The number of parameters."""
    return sum(p.numel() for p in model.parameters())


def calibrated(model: nn.Module, inputs: tuple[Any, ...], seed: int) -> nn.Module:
    """Give batch norms statistics near those of their inputs.

    With statistics that have nothing to do with its inputs, a deep model forgets them: the outputs for two
    samples differ by 1e-13, all the rest comes from biases, and an error inside would not be seen either.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad(), torch.random.fork_rng(), NoRandomness():
        torch.manual_seed(seed)
        model.train()(*inputs)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.running_mean is None or norm.running_var is None:
                continue
            mean, var = norm.running_mean, norm.running_var
            var.clamp_(min=0.1 * float(var.mean()) + 1e-3)
            mean.add_(var.sqrt() * (torch.rand_like(var) - 0.5))
            var.mul_(0.5 + 1.5 * torch.rand_like(var))
    return model


def prepared(entry: Entry, limit: float, seed: int) -> tuple[nn.Module, tuple[Any, ...]]:
    """The teacher in float64, randomised, or on meta above the limit; and its inputs."""
    torch.manual_seed(seed)
    model = entry.build()
    inputs = tuple(given(entry.inputs(), torch.float64))
    if parameters(model) > limit:
        return model.to("meta").double(), tuple(v.to("meta") if isinstance(v, Tensor) else v for v in inputs)
    return calibrated(randomise(model.double(), seed), inputs, seed), inputs


def measured(row: Row, model: nn.Module, inputs: tuple[Any, ...], before: dict[str, list[Tensor]], seed: int) -> None:
    """Grow the model and fill the row."""
    start = time.perf_counter()
    student = fxgrow.grow(model, row.factor, inputs, seed=seed)
    row.seconds = time.perf_counter() - start
    row.nodes = len(student.graph.nodes)
    row.parameters_grown = parameters(student)
    plan = student.meta["fxgrow"]
    row.pins = "\n".join(f"{left.name}: {left.reason}" for left in plan.left)
    row.notes = "\n".join(plan.notes)
    changed = grown(model, student)
    names = {f"{name}.weight".lstrip(".") for name, m in model.named_modules() if isinstance(m, GROWABLE)}
    row.weights, row.weights_grown = len(names), len(names & changed)
    after = {mode: run(student, inputs, mode) for mode in before}
    if any(t.is_meta for ts in before.values() for t in ts):
        shapes = [[[t.shape for t in ts] for ts in outputs.values()] for outputs in (before, after)]
        row.shapes = "equal" if shapes[0] == shapes[1] else "differ"
        return
    row.error_eval = relative_error(before["eval"], after["eval"])
    row.error_train = relative_error(before["train"], after["train"])


def grow_model(zoo: str, entry: Entry, factors: Sequence[float], limit: float, seed: int) -> Iterator[Row]:
    """One row per factor."""
    made, failure = attempt(lambda: prepared(entry, limit, seed))
    if made is None:
        yield from (Row(zoo, entry.name, factor, failure=f"build: {failure}") for factor in factors)
        return
    model, inputs = made
    before, failure = attempt(lambda: {mode: run(model, inputs, mode) for mode in ("eval", "train")})
    if before is None:
        yield from (Row(zoo, entry.name, factor, failure=f"teacher: {failure}") for factor in factors)
        return
    traced, why = attempt(lambda: fxgrow.trace(model, inputs))
    for factor in factors:
        row = Row(zoo, entry.name, factor, parameters(model), traced="yes" if traced is not None else why)
        meta = any(t.is_meta for t in before["eval"])
        row.sensitivity = None if meta else sensitivity(before["eval"])
        if not meta and not all(bool(t.isfinite().all()) for ts in before.values() for t in ts):
            row.failure = "teacher: its outputs are not finite"
        else:
            _, row.failure = attempt(lambda row=row: measured(row, model, inputs, before, seed))
        gc.collect()
        yield row


COLUMNS: dict[str, Callable[[Row], str]] = {
    "model": lambda r: r.model,
    "factor": lambda r: f"{r.factor:g}",
    "parameters": lambda r: f"{r.parameters / 1e6:.1f} M" + (f" → {r.parameters_grown / 1e6:.1f} M" * bool(r.nodes)),
    "traced": lambda r: r.traced.split(":")[0],
    "nodes": lambda r: str(r.nodes or ""),
    "weights grown": lambda r: f"{r.weights_grown}/{r.weights} ({r.share:.0%})" if r.weights else "",
    "error (eval)": lambda r: r.error if r.error_eval is None else f"{r.error_eval:.1e}",
    "error (train)": lambda r: r.error if r.error_train is None else f"{r.error_train:.1e}",
    "seconds": lambda r: f"{r.seconds:.1f}",
    "remarks": lambda r: r.failure or r.top_pins,
}
WIDTHS = (22, 6, 20, 10, 5, 16, 12, 13, 7, 0)


def line(cells: Sequence[str]) -> str:
    """One line of the table on the terminal."""
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """All fields of all rows."""
    fields = [f.name for f in dataclasses.fields(Row)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*fields, "share", "passed"])
        writer.writerows([*(getattr(r, f) for f in fields), f"{r.share:.4f}", r.passed] for r in rows)


def write_markdown(path: Path, rows: Sequence[Row], command: str) -> None:
    """A page of documentation: a row per family, then a row per model."""
    families: dict[str, list[Row]] = {}
    for row in rows:
        families.setdefault(family(row.model), []).append(row)
    text = [
        "# What grows: the zoo",
        "",
        "Made by a script, not by hand:",
        "",
        f"    {command}",
        "",
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, one thread. Random",
        "weights, norm statistics and affine parameters, float64, batch of 2, dropout off; errors are",
        "max |student - teacher| / max |teacher| over all outputs. A weight counts as grown if its shape changed.",
        "`nodes` is the size of the FX graph, `seconds` the time of `fxgrow.grow` from model to student (other jobs",
        "ran on the machine). Models of more than 150 million parameters are grown on the meta device: shapes only.",
        "",
        summary(rows),
        "",
        *markdown_table(FAMILY_COLUMNS, list(families.items())),
        "",
        "## Model by model",
        "",
        *markdown_table(COLUMNS, rows),
        "",
    ]
    path.write_text("\n".join(text), encoding="utf-8")


def markdown_table(columns: Mapping[str, Callable[[Any], str]], rows: Sequence[Any]) -> list[str]:
    """The lines of a Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in rows:
        lines.append("| " + " | ".join(cell(row).replace("|", "\\|") for cell in columns.values()) + " |")
    return lines


def family(model: str) -> str:
    """The family that a model's name tells."""
    found = re.match(r"(wide_|regnet_)?[a-z]+(_?v\d)?", model)
    name = found.group(0) if found else model
    return "regnet_" + model.split("_")[1] if name.startswith("regnet_") else name


def worst(rows: Sequence[Row], field: str) -> str:
    """The largest error of some rows, as text."""
    errors = [error for row in rows if (error := getattr(row, field)) is not None]
    return f"{max(errors):.1e}" if errors else ""


FAMILY_COLUMNS: dict[str, Callable[[tuple[str, list[Row]]], str]] = {
    "family": lambda f: f[0],
    "models": lambda f: str(len({row.model for row in f[1]})),
    "factors": lambda f: ", ".join(f"{x:g}" for x in sorted({row.factor for row in f[1]})),
    "traced": lambda f: f"{sum(row.traced.startswith('yes') for row in f[1])}/{len(f[1])}",
    "passed": lambda f: f"{sum(row.passed for row in f[1])}/{len(f[1])}",
    "weights grown, least": lambda f: f"{min(row.share for row in f[1]):.0%}",
    "error (eval), worst": lambda f: worst(f[1], "error_eval"),
    "error (train), worst": lambda f: worst(f[1], "error_train"),
}


def read_csv(path: Path) -> list[Row]:
    """The rows that `write_csv` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Row(**{f.name: _read(record[f.name], f.type) for f in dataclasses.fields(Row)})
            for record in csv.DictReader(file)
        ]


def _read(text: str, kind: Any) -> Any:
    if "None" in str(kind) and text == "":
        return None
    return int(text) if kind is int else float(text) if "float" in str(kind) else text


def summary(rows: Sequence[Row]) -> str:
    """One sentence on all rows."""
    errors = [e for r in rows for e in (r.error_eval, r.error_train) if e is not None]
    weights = sum(r.weights for r in rows)
    share = sum(r.weights_grown for r in rows) / weights if weights else 0.0
    return (
        f"{sum(r.passed for r in rows)} of {len(rows)} passed ({len({r.model for r in rows})} models): "
        f"{sum(bool(r.failure) for r in rows)} failed, largest error {max(errors, default=math.nan):.1e}, "
        f"{share:.1%} of the convolution and linear weights grew, "
        f"{sum(r.seconds for r in rows):.0f} s in grow()."
    )


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", choices=sorted(ZOOS), default="torchvision")
    parser.add_argument("--models", nargs="+", default=["*"], metavar="GLOB", help="names of models (default: all)")
    parser.add_argument("--factors", nargs="+", type=float, default=[1.5, 2.0])
    parser.add_argument("--csv", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--render", type=Path, metavar="CSV", help="run nothing; make the Markdown page from a CSV")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit-params", type=float, default=150e6, help="above it, on meta (default: 150e6)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the zoo; the exit status."""
    options = arguments(argv)
    if options.render and options.markdown:
        write_markdown(options.markdown, read_csv(options.render), COMMAND)
        return 0
    torch.set_num_threads(options.threads)
    start = time.perf_counter()
    rows: list[Row] = []
    print(line(list(COLUMNS)))
    for entry in ZOOS[options.zoo]():
        if not any(fnmatch.fnmatch(entry.name, pattern) for pattern in options.models):
            continue
        for row in grow_model(options.zoo, entry, options.factors, options.limit_params, options.seed):
            rows.append(row)
            print(line([cell(row) for cell in COLUMNS.values()]), flush=True)
            if options.csv:  # after each row: a run that is stopped leaves what it has
                write_csv(options.csv, rows)
        gc.collect()
    if options.markdown:
        write_markdown(options.markdown, rows, COMMAND)
    print(f"\n{summary(rows)} {time.perf_counter() - start:.0f} s in all.")
    return 0 if rows and all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
