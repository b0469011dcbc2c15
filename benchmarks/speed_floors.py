"""What stops fxgrow from being faster: the least that filling and analysing could take.

`grow_speed.py --only fill floors` prints both tables. All times are processor times, the least of the repeats.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

import fxgrow
from benchmarks.page import Table
from benchmarks.speed_clock import Clock
from fxgrow import methods
from fxgrow.model.copies import clone_shared, named_tensors, on_meta
from fxgrow.rewrite.tensors import grown_tensors

Nets = Iterable[tuple[str, nn.Module, Tensor]]
EXACT = [name for name in methods.names() if methods.method(name).preserves_function]


# -- filling ---------------------------------------------------------------------------------------


class Draws(TorchDispatchMode):
    """Counts the random numbers that are drawn; those of fxgrow have 64 bits."""

    made = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = op(*args, **(kwargs or {}))
        if torch.Tag.nondeterministic_seeded in op.tags:
            self.made += result.numel()
        return result


def fill_costs(nets: Nets, factor: float, repeats: int, names: Sequence[str] = EXACT) -> Table:
    """Filling all of a student's tensors against a clone of them, and against a clone and the draws alone.

    Args:
        nets: Name, model and inputs.
        factor: By which it grows.
        repeats: Of each measurement, of which the least counts.
        names: Methods by which it grows.
    """
    head = ("model", "method", "student MB", "clone ms", "clone + draws", "fill", "clone ms, warm", "fill, warm")
    table = Table("Filling", head)
    for name, model, x in nets:
        found = fxgrow.widths(model, x)
        for method in names:
            try:
                plan = fxgrow.plan(found, factor, method=method)
            except fxgrow.GrowError as error:
                print(f"{name} by {method}: {str(error).splitlines()[0]}", file=sys.stderr)
                continue
            table.rows.append((name, method, *_filled(plan, named_tensors(model), repeats)))
            print(" | ".join(table.rows[-1]), file=sys.stderr, flush=True)
    table.remarks.append(
        f"By {factor}. Filling makes all tensors of the student; clones are of these tensors, and the columns beside "
        "them are multiples of a clone. Cold: the allocator has given all memory back, so that each page is new, as "
        "for the first student of a process. Draws: as many random numbers of 64 bits as this filling makes, written "
        "to memory that exists. One serves four entries; `even` draws none."
    )
    return table


def _filled(plan: fxgrow.Plan, tensors: dict[str, Tensor], repeats: int) -> tuple[str, ...]:
    with Draws() as draws:
        student = grown_tensors(plan, tensors)
    drawn = torch.empty(max(draws.made, 1), dtype=torch.int64)
    parts = [drawn[i : i + (1 << 18)] for i in range(0, len(drawn), 1 << 18)]  # which stay in the cache

    def draw() -> None:
        for part in parts:
            parts[0][: len(part)].random_()

    clock = Clock()
    for _ in range(repeats):
        for label, cold in (("cold", True), ("warm", False)):
            clock(f"clone {label}", lambda: [t.detach().clone() for t in student.values()], cold=cold)
            clock(f"fill {label}", lambda: grown_tensors(plan, tensors), cold=cold)
        clock("draws", draw)
    least = {name: min(times) for name, times in clock.times.items()}
    size = sum(t.numel() * t.element_size() for t in student.values())
    cold, warm = least["clone cold"], least["clone warm"]
    return (
        f"{size / 1e6:.0f}",
        f"{cold * 1e3:.0f}",
        f"{1 + least['draws'] / cold:.2f}",
        f"{least['fill cold'] / cold:.2f}",
        f"{warm * 1e3:.0f}",
        f"{least['fill warm'] / warm:.2f}",
    )


# -- analysing -------------------------------------------------------------------------------------


class Answering(TorchDispatchMode):
    """Answers each call from a list: what a run costs that keeps nothing and asks no kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[Any, Any]] = []  # the operator, and what it gave
        self._next: Iterator[Any] | None = None

    def again(self) -> "Answering":
        """The same, from the first call on."""
        self._next = iter(self.made)
        return self

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._next is not None:
            made = next(made for known, made in self._next if known is op)  # torch leaves a detach out here and there
            return made.detach() if isinstance(made, Tensor) else tuple([one.detach() for one in made])  # no view twice
        made = op(*args, **(kwargs or {}))
        self.made.append((op, made))
        return made


def floors(nets: Nets, repeats: int) -> Table:
    """`widths` against the steps that it cannot do without, where each of them does nothing else."""
    head = ("model", "calls", "FX trace ms", "four runs ms", "copies ms", "in all ms", "widths ms", "ratio")
    table = Table("What an analysis cannot go below", head)
    for name, model, x in nets:
        table.rows.append((name, *_floor(model, x, repeats)))
        print(" | ".join(table.rows[-1]), file=sys.stderr, flush=True)
    table.remarks.append(
        "A trace by `fx.Tracer` alone. Four runs: of the model in train and in eval mode, of the trace for its values "
        "and of the trace for the widths, on meta, under a dispatch mode that answers each call from a list. Copies: "
        "four of the model, with all tensors shared. None of these steps computes a digest, a width, a guard or a "
        "name; `widths` also tries inputs of other ranks and sizes."
    )
    return table


def _floor(model: nn.Module, x: Tensor, repeats: int) -> tuple[str, ...]:
    meta, on = on_meta(model), x.to("meta")
    graph = fx.Tracer().trace(meta)
    interpreter = fx.Interpreter(fx.GraphModule(meta, graph))
    modes, traced = {training: Answering() for training in (True, False)}, Answering()

    def runs() -> None:
        for training, mode in modes.items():
            meta.train(training)
            with torch.no_grad(), mode.again():
                meta(on)
        for _ in range(2):
            with torch.no_grad(), traced.again():
                interpreter.run(on)

    for training, mode in modes.items():
        meta.train(training)
        with torch.no_grad(), mode:
            meta(on)
    with torch.no_grad(), traced:
        interpreter.run(on)
    clock = Clock()
    for _ in range(repeats):
        clock("trace", lambda: fx.Tracer().trace(meta))
        clock("runs", runs)
        clock("copies", lambda: [clone_shared(meta) for _ in range(4)])
        clock("widths", lambda: fxgrow.widths(model, x))
    least = {name: min(times) * 1e3 for name, times in clock.times.items()}
    floor = least["trace"] + least["runs"] + least["copies"]
    calls = str(len(modes[False].made))
    parts = [f"{ms:.0f}" for ms in (least["trace"], least["runs"], least["copies"], floor, least["widths"])]
    return (calls, *parts, f"{least['widths'] / floor:.2f}")
