"""Grow every model of a zoo and compare it with what it was.

    python benchmarks/zoo.py --zoo torchvision --models "resnet*" --factors 1.5 2.0 --csv zoo.csv

For each model and factor: whether it traces, the share of convolution and linear weights whose shape
changed, what stayed and why, the largest relative error of the outputs in eval and in train mode, and the
seconds that `fxgrow.grow` took. Errors are computed in measure.py, in float64, with randomised statistics and
affine weights and dropout off, without `fxgrow.verify`. Models above --limit-params are grown on the meta
device, where only shapes can be compared.

A row is one of: grown (and exact), unchanged (exact, but nothing grew), refused (a GrowError says why), skipped
(the model does not run without fxgrow either), timeout, crash (an exception that is no GrowError), unstable (the
outputs change as much when the inputs are rounded differently), blind (exact, but the outputs hardly depend on the
inputs: nothing was tested), and WRONG.

With --deepen, "layers" rows have a new layer after each convolution and linear layer (the share is of those that
could be followed), "blocks" rows a clone of the last residual block of each stage.

The exit status is 1 if a model fails, an error exceeds 1e-10, or a share is below 95 %; skipped models do not
count.
"""

import argparse
import collections
import csv
import dataclasses
import fnmatch
import gc
import math
import multiprocessing
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import zoo_tiny  # noqa: F401 - it registers a zoo
from benchmarks.measure import DEEPER, SHARE, TOLERANCE, Row, grow_model
from benchmarks.zoos import PER_FAMILY, ZOOS, Entry

__all__ = ["SHARE", "TOLERANCE", "Row", "grow_model", "main"]
# The commands of the pages, by the names of the tables that they are made of.
TORCHVISION = (
    "for z in torchvision torchvision-dense; do OMP_NUM_THREADS=1 python benchmarks/zoo.py --zoo $z --output both "
    "--limit-seconds 1500 --csv $z.csv; done; python benchmarks/zoo.py --render torchvision.csv torchvision-dense.csv "
    "--markdown docs/zoo.md"
)
TIMM = (
    "OMP_NUM_THREADS=1 python benchmarks/zoo.py --zoo timm --factors 2.0 --limit-params 30e6 --skip-params 60e6 "
    "--limit-seconds 60 --csv timm.csv --markdown docs/zoo_timm.md"
)


SLOW = 20  # seconds
TINY = (
    "OMP_NUM_THREADS=1 python benchmarks/zoo.py --zoo transformers-tiny --factors 2.0 --output module "
    "--limit-seconds 60 --csv tiny.csv --markdown docs/zoo_transformers.md"
)
COMMANDS = {"timm": TIMM, "transformers-tiny": TINY}
LONG = (5, 20)  # what takes longer than so many seconds and so many forward passes
SLOWER = "Slower than {1} forward passes and {0} s".format(*LONG)


COLUMNS: dict[str, Callable[[Row], str]] = {
    "model": lambda r: r.model,
    "factor": lambda r: f"{r.factor:g}" + f" {r.output}" * (r.output != "graph"),
    "result": lambda r: r.status,
    "parameters": lambda r: (
        f"{r.parameters / 1e6:.1f} M" + (f" → {r.parameters_grown / 1e6:.1f} M" * bool(r.parameters_grown))
    ),
    "traced": lambda r: r.traced.split(":")[0],
    "nodes": lambda r: str(r.nodes or ""),
    "weights grown": lambda r: f"{r.weights_grown}/{r.weights} ({r.share:.0%})" if r.weights else "",
    "error (eval)": lambda r: r.error if r.error_eval is None else f"{r.error_eval:.1e}",
    "error (train)": lambda r: r.error if r.error_train is None else f"{r.error_train:.1e}",
    "seconds": lambda r: f"{r.seconds:.1f}",
    "remarks": lambda r: r.failure or r.top_pins,
}
WIDTHS = (34, 6, 9, 20, 10, 5, 16, 12, 13, 7, 0)


def line(cells: Sequence[str]) -> str:
    """One line of the table on the terminal."""
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()[:300]


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """All fields of all rows."""
    fields = [f.name for f in dataclasses.fields(Row)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*fields, "share", "passed", "status"])
        writer.writerows([*(getattr(r, f) for f in fields), f"{r.share:.4f}", r.passed, r.status] for r in rows)


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
        f"## {SLOWER}",
        "",
        *long_section(rows),
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


def _passed(rows: Sequence[Row], output: str) -> str:
    """How many rows of one output passed."""
    found = [row for row in rows if row.output == output]
    return f"{sum(row.passed for row in found)}/{len(found)}" if found else ""


def _least(rows: Sequence[Row], output: str) -> str:
    """The least share of weights that grew."""
    shares = [row.share for row in rows if row.output == output and row.weights]
    return f"{min(shares):.0%}" if shares else ""


FAMILY_COLUMNS: dict[str, Callable[[tuple[str, list[Row]]], str]] = {
    "family": lambda f: f[0],
    "models": lambda f: str(len({row.model for row in f[1]})),
    "factors": lambda f: ", ".join(f"{x:g}" for x in sorted({row.factor for row in f[1]})),
    "graph: passed": lambda f: _passed(f[1], "graph"),
    "weights grown, least": lambda f: _least(f[1], "graph"),
    "module: passed": lambda f: _passed(f[1], "module"),
    "weights grown, least ": lambda f: _least(f[1], "module"),
    "error (eval), worst": lambda f: worst(f[1], "error_eval"),
    "error (train), worst": lambda f: worst(f[1], "error_train"),
}


LONG_COLUMNS: dict[str, Callable[[Row], str]] = {
    "model": COLUMNS["model"],
    "factor": COLUMNS["factor"],
    "parameters": COLUMNS["parameters"],
    "forward s": lambda r: f"{r.forward / 2:.2f}",
    "grow s": COLUMNS["seconds"],
    "grow / forward": lambda r: f"{r.passes:.0f}",
}


def read_csv(path: Path) -> list[Row]:
    """The rows that `write_csv` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Row(**{f.name: _read(record[f.name], f.type) for f in dataclasses.fields(Row) if f.name in record})
            for record in csv.DictReader(file)
        ]


def _read(text: str, kind: Any) -> Any:
    if "None" in str(kind) and text == "":
        return None
    return int(text) if kind is int else float(text) if "float" in str(kind) else text


def summary(rows: Sequence[Row]) -> str:
    """A few sentences on all rows."""
    errors = [e for r in rows if r.status != "unstable" for e in r.errors]
    weights = sum(r.weights for r in rows)
    share = sum(r.weights_grown for r in rows) / weights if weights else 0.0
    kinds = collections.Counter(r.status for r in rows)
    mlps = (
        f", of {sum(r.mlps for r in rows)} MLP widths {sum(r.mlps_grown for r in rows)}"
        if any(r.mlps for r in rows)
        else ""
    )
    return (
        f"{sum(r.passed for r in rows)} of {len(rows)} passed ({len({r.model for r in rows})} models): "
        f"{sum(bool(r.failure) for r in rows)} failed, largest error {max(errors, default=math.nan):.1e}, "
        f"{share:.1%} of the convolution and linear weights grew{mlps}, "
        f"{sum(r.seconds for r in rows):.0f} s in grow(). "
        f"By result: {', '.join(f'{kind} {n}' for kind, n in kinds.most_common())}."
    )


def models_of(rows: Sequence[Row]) -> dict[str, Row]:
    """One row of each model."""
    return {row.model: row for row in rows}


def findings(rows: Sequence[Row]) -> Iterator[str]:
    """Markdown: what failed, grouped by reason, and what stayed in the models that grew."""
    for kind in ("WRONG", "crash", "unstable", "blind", "timeout", "refused", "skipped"):
        groups: dict[str, list[Row]] = collections.defaultdict(list)
        for row in rows:
            if row.status == kind:
                groups[row.reason or {"blind": "nothing was tested"}.get(kind, "the outputs differ")].append(row)
        if groups:
            yield from ("", f"### {kind}", "")
        for reason, some in sorted(groups.items(), key=lambda item: -len({r.model for r in item[1]})):
            models = list(models_of(some).values())
            yield f"- {len(models)} models: {reason[:200]}"
            # Two examples, and one of each line of code; all of what should never happen.
            places = list({row.place: row for row in models}.values())
            examples = (places + [row for row in models if row not in places])[: min(max(2, len(places)), 8)]
            for row in models if kind in ("WRONG", "crash", "unstable") else examples:
                detail = row.place or row.frames or f"{row.error}, noise {row.noise}" * (not row.failure)
                yield f"  - {row.zoo}/{row.model} x{row.factor:g}" + f": {detail}" * bool(detail)
    yield from kept(rows)
    slow = sorted((row for row in rows if row.seconds > SLOW), key=lambda row: -row.seconds)
    if slow:
        yield from ("", f"### Slower than {SLOW} s", "")
        yield from (
            f"- {r.zoo}/{r.model} x{r.factor:g} {r.output}: {r.seconds:.0f} s, {r.repairs} repairs" for r in slow
        )
    yield from ("", f"### {SLOWER}", "", *long_section(rows))
    stayed: dict[str, list[Row]] = collections.defaultdict(list)
    for row in rows:
        if not row.failure and row.share < SHARE:
            for pin in row.top_pins.split("; "):
                stayed[re.sub(r"^\d+x | \(?(in|at) .*$", "", pin)].append(row)
    if stayed:
        yield from ("", "### Commonest reasons for widths that stayed, where less than 95 % of the weights grew", "")
    for reason, some in sorted(stayed.items(), key=lambda item: -len({r.model for r in item[1]})):
        two = ", ".join(f"{row.zoo}/{name} ({row.share:.0%})" for name, row in list(models_of(some).items())[:2])
        yield f"- {len(models_of(some))} models: {reason or 'none given'} ({two})"


def long_section(rows: Sequence[Row]) -> list[str]:
    """Markdown: what takes longer to grow than LONG says, those that took most forward passes first.

    What did not come to an end, and what no forward pass on the processor was measured of, is named as well.
    """
    seconds, times = LONG
    long = sorted((r for r in rows if r.seconds > seconds and r.passes > times), key=lambda row: -row.passes)
    lines = markdown_table(LONG_COLUMNS, long) if long else ["None."]
    ended = [row for row in rows if row.status == "timeout"]
    if ended:
        lines += ["", f"Stopped by the limit of time: {', '.join(map(_named, ended))}."]
    unknown = [row for row in rows if not row.failure and not row.forward and row.seconds > seconds]
    if unknown:
        named = ", ".join(f"{_named(row)} ({row.seconds:.0f} s)" for row in unknown)
        lines += ["", f"More than {seconds} s, on meta, where no forward pass computes: {named}."]
    return lines


def _named(row: Row) -> str:
    return f"{row.model} x{row.factor:g}" + f" {row.output}" * (row.output != "graph")


def kept(rows: Sequence[Row]) -> Iterator[str]:
    """Markdown: what the engine could not take into a graph, grouped by reason, with a line of code each."""
    groups: dict[str, dict[str, tuple[str, str]]] = collections.defaultdict(dict)
    for row in rows:
        for reason, code in row.reasons_kept:
            groups[reason].setdefault(row.model, (f"{row.zoo}/{row.model} ({row.traced})", code))
    if groups:
        yield from ("", "### Kept as calls", "")
    for reason, models in sorted(groups.items(), key=lambda item: -len(item[1])):
        yield f"- {len(models)} models: {reason[:200]}"
        yield from (f"  - {name}" + f": {code}" * bool(code) for name, code in list(models.values())[:3])


def command_for(rows: Sequence[Row]) -> str:
    """The command that makes the page of a zoo."""
    zoos = {row.zoo for row in rows}
    return next((command for name, command in COMMANDS.items() if zoos == {name}), TORCHVISION)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", choices=sorted(ZOOS), default="torchvision")
    parser.add_argument("--models", nargs="+", default=["*"], metavar="GLOB", help="names of models (default: all)")
    parser.add_argument("--factors", nargs="+", type=float, default=[1.5, 2.0])
    parser.add_argument("--csv", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument(
        "--render", type=Path, nargs="+", metavar="CSV", help="run nothing; make the Markdown page from these"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit-params", type=float, default=150e6, help="above it, on meta (default: 150e6)")
    parser.add_argument("--skip-params", type=float, default=math.inf, help="above it, not at all")
    parser.add_argument("--limit-seconds", type=float, default=0, help="for one model (default: any)")
    parser.add_argument("--output", choices=("graph", "module", "both"), default="graph", help="of fxgrow.grow")
    parser.add_argument("--deepen", action="store_true", help="new layers everywhere, and blocks, in place of widths")
    parser.add_argument("--per-family", type=int, metavar="N", help="at most so many models of a family; 0: all")
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="each N-th model, from the I-th on")
    parser.add_argument("--resume", action="store_true", help="keep the rows of --csv and do what is missing")
    parser.add_argument("--isolate", action="store_true", help="each model in a process of its own")
    parser.add_argument("--findings", type=Path, metavar="FILE", help="failures grouped by reason, as Markdown")
    return parser.parse_args(argv)


def chosen(options: argparse.Namespace) -> Iterator[Entry]:
    """The entries that the options ask for."""
    index, count = map(int, options.shard.split("/"))
    most = PER_FAMILY.get(options.zoo, 0) if options.per_family is None else options.per_family
    if options.models != ["*"] and options.per_family is None:
        most = 0
    families: collections.Counter[str] = collections.Counter()
    position = 0
    for entry in ZOOS[options.zoo]():
        if not any(fnmatch.fnmatch(entry.name, pattern) for pattern in options.models):
            continue
        families[entry.family] += 1
        if most and families[entry.family] > most:
            continue
        if position % count == index:
            yield entry
        position += 1


def isolated(zoo: str, entry: Entry, factors: Sequence[float], *given: Any, **options: Any) -> list[Row]:
    """`grow_model` in a process of its own: where that dies, a row says so."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def work() -> None:
        theirs.send(list(grow_model(zoo, entry, factors, *given, **options)))

    process = context.Process(target=work)
    process.start()
    theirs.close()
    try:
        return list(ours.recv())
    except EOFError:
        process.join()
        failure = f"the process died with status {process.exitcode}"
        outputs = options.get("outputs", ("graph",))
        return [
            Row(zoo, entry.name, f, output=o, family=entry.family, failure=failure, kind="crash")
            for f in factors
            for o in outputs
        ]
    finally:
        process.join()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the zoo; the exit status."""
    options = arguments(argv)
    if options.render:
        rows = [row for path in options.render for row in read_csv(path)]
        if options.markdown:
            write_markdown(options.markdown, rows, command_for(rows))
        if options.findings:
            options.findings.write_text("\n".join(findings(rows)) + "\n", encoding="utf-8")
        return 0
    torch.set_num_threads(options.threads)
    start = time.perf_counter()
    rows = read_csv(options.csv) if options.resume and options.csv and options.csv.exists() else []
    done = {row.key for row in rows}
    outputs = ("graph", "module") if options.output == "both" else (options.output,)
    if options.deepen:
        outputs, options.factors = tuple(DEEPER), [1.0]
    print(line(list(COLUMNS)))
    for entry in chosen(options):
        factors = [f for f in options.factors if any((options.zoo, entry.name, f, o) not in done for o in outputs)]
        limits = {"skip": options.skip_params, "seconds": options.limit_seconds}
        grow = isolated if options.isolate else grow_model
        for row in (
            grow(options.zoo, entry, factors, options.limit_params, options.seed, outputs=outputs, **limits)
            if factors
            else ()
        ):
            if row.key in done:
                continue
            rows.append(row)
            print(line([cell(row) for cell in COLUMNS.values()]), flush=True)
            if row.status == "WRONG":
                print(f"{'!' * 20} WRONG: {row.model} x{row.factor:g} {row.failure or row.errors}", flush=True)
        if options.csv and factors:  # after each model: a run that is stopped leaves what it has
            write_csv(options.csv, rows)
        gc.collect()
    if options.markdown:
        write_markdown(options.markdown, rows, command_for(rows))
    if options.findings:
        options.findings.write_text("\n".join(findings(rows)) + "\n", encoding="utf-8")
    print(f"\n{summary(rows)} {time.perf_counter() - start:.0f} s in all.")
    counted = [row for row in rows if row.status != "skipped"]
    return 0 if counted and all(row.passed for row in counted) else 1


if __name__ == "__main__":
    sys.exit(main())
