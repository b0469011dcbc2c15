"""What one ATen call costs in each stage of the analysis, and how often one growth walks and copies the module tree.

`grow_speed.py --only calls` prints it. Every time is the least of its repeats, in processor time.
"""

import gc
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

import fxgrow
from benchmarks.page import Table
from fxgrow.base.isolation import no_collection
from fxgrow.capture.ladder import trace_model
from fxgrow.infer.freeze import freeze
from fxgrow.infer.inference import infer
from fxgrow.model.copies import clone_shared, named_tensors, on_meta
from fxgrow.model.example_inputs import as_inputs
from fxgrow.model.walk import named_modules
from fxgrow.recording.model_run import run_model
from fxgrow.rewrite.student import rebuild
from fxgrow.rewrite.tensors import replacements
from fxgrow.validate.conformance import check_conformance

HEAD = (
    "model", "calls", "recording µs", "trace / fx.Tracer", "inference µs", "check µs", "walks", "clones", "widths ms",
    "grow ms",
)  # fmt: skip


def call_costs(nets: Iterable[tuple[str, nn.Module, Tensor]], factor: float, repeats: int) -> Table:
    """A row per net.

    Args:
        nets: Name, model and inputs.
        factor: By which it grows.
        repeats: Of each measurement, of which the least counts.
    """
    table = Table("Costs of a call", HEAD)
    for name, model, x in nets:
        table.rows.append((name, *_row(model, x, factor, repeats)))
        print(" | ".join(table.rows[-1]), file=sys.stderr, flush=True)
    table.remarks.append(
        f"By {factor}; the least of the repeats. Recording (the model alone, with the copies of it that run), "
        "inference and check are in microseconds per ATen call. What `trace` does beside the recordings is compared "
        "with a plain `fx.Tracer` on the same model, which checks nothing and runs once. Walks are those through the "
        "modules of a tree or a part of it, clones those of a whole tree, in one `grow`."
    )
    return table


def _row(model: nn.Module, x: Tensor, factor: float, repeats: int) -> tuple[str, ...]:
    meta, inputs, theirs = on_meta(model), as_inputs(x), named_tensors(model)
    traced = trace_model(model, x)
    found = freeze(traced)
    proposal = fxgrow.plan(found, factor)
    recorded = sum(len(run.calls) for run in traced.tapes.values())
    inferred = sum(len(calls) for calls in found.calls.values())

    def check() -> float:
        root = clone_shared(traced.root, replacements(proposal, traced.root))
        graphs = rebuild(root, traced, proposal)
        return seconds(lambda: check_conformance(root, graphs, found, proposal))

    times: dict[str, list[float]] = {}
    for _ in range(repeats):
        for stage, took in (
            ("record", seconds(lambda: run_model(meta, inputs, theirs))),
            ("trace", seconds(lambda: trace_model(model, x))),
            ("plain", seconds(lambda: fx.Tracer().trace(meta))),
            ("infer", seconds(lambda: infer(traced))),
            ("check", check()),
            ("widths", seconds(lambda: fxgrow.widths(model, x), collecting=True)),
            ("grow", seconds(lambda: fxgrow.grow(model, factor, x), collecting=True)),
        ):
            times.setdefault(stage, []).append(took)
    least = {stage: min(took) for stage, took in times.items()}
    with counted() as counts:
        fxgrow.grow(model, factor, x)
    return (
        str(inferred),
        f"{least['record'] / recorded * 1e6:.0f}",
        f"{(least['trace'] - least['record']) / least['plain']:.2f}",
        f"{least['infer'] / inferred * 1e6:.0f}",
        f"{least['check'] / inferred * 1e6:.0f}",
        str(counts["named_modules"]),
        str(counts["clone_shared"]),
        f"{least['widths'] * 1e3:.0f}",
        f"{least['grow'] * 1e3:.0f}",
    )


def seconds(action: Callable[[], Any], *, collecting: bool = False) -> float:
    """Processor time of an action; of one that runs inside others, without the garbage collector, as it does there."""
    gc.collect()
    if collecting:
        start = time.process_time()
        action()
        return time.process_time() - start
    with no_collection(), torch.inference_mode(False):
        start = time.process_time()
        action()
        return time.process_time() - start


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """How often the tree is walked and cloned inside, by any file that imported the functions."""
    counts = {"named_modules": 0, "clone_shared": 0}
    places: list[tuple[Any, str, Any]] = []
    for function in (named_modules, clone_shared):
        name = function.__name__

        def count(*args: Any, name: str = name, function: Any = function, **kwargs: Any) -> Any:
            counts[name] += 1
            return function(*args, **kwargs)

        for key, module in list(sys.modules.items()):
            if key.startswith("fxgrow") and vars(module).get(name) is function:
                places.append((module, name, function))
                setattr(module, name, count)
    try:
        yield counts
    finally:
        for module, name, function in places:
            setattr(module, name, function)
