"""The student held against its plan, before any number is computed.

It runs on meta tensors and must make the teacher's ATen calls, with the shapes and the integer arguments
that the layouts predict and every other constant the same. So a size that the rewriting did not know of
(``x / x.shape[1]``, a literal in an unusual place) shows here, and is pinned instead of being wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from .copies import named_tensors, rng_preserved
from .grown import GrownModule, Mode
from .layout import Layout, atoms, measure
from .ops import Value
from .plan import Plan
from .record import named_inputs
from .sites import describe
from .tape import Tape, plain_leaves, same_operator
from .widths import WidthGraph


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first place where a student departs from its plan, and the widths that meet there."""

    site: str
    found: str
    groups: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.found} at {self.site}"


def mismatch(student: GrownModule, widths: WidthGraph, plan: Plan) -> Mismatch | None:
    """Run a student on meta tensors in every mode; the first departure from the plan, or None."""
    new = {name: group.size for name, group in widths.named.items()} | {w.name: w.new for w in plan.groups}
    training = {name: module.training for name, module in student.named_modules()}
    try:
        for mode in widths.traced.modes:
            student.train(mode == "train")
            tape = _CheckedTape(student, widths, mode, new)
            found = tape.run(student)
            if found is not None:
                return found
    finally:
        for name, module in student.named_modules():
            module.training = training[name]
    return None


class _Departure(Exception):
    pass


class _CheckedTape(Tape):
    """A tape that stops at the first call which is not as predicted."""

    def __init__(
        self,
        student: GrownModule,
        widths: WidthGraph,
        mode: Mode,
        new: Mapping[str, int],
    ) -> None:
        inputs = widths.traced.inputs
        super().__init__({**named_tensors(student), **named_inputs(inputs.args, inputs.kwargs)})
        self.widths = widths
        self.mode = mode
        self.teacher = widths.calls[mode]
        self.predictions = widths.predictions[mode]
        self.new = new
        self.node: fx.Node | None = None

    def run(self, student: GrownModule) -> Mismatch | None:
        """Run the student; what departs first, or None."""
        try:
            with rng_preserved(), torch.no_grad(), self:
                result = _Interpreter(student, self).run(*self.widths.traced.arguments)
        except _Departure as departure:
            return self._mismatch(len(self.calls) - 1, str(departure).splitlines()[0])
        except Exception as error:  # noqa: BLE001 - whatever the model raises where a size is not what it expects
            return self._mismatch(len(self.calls), f"{type(error).__name__}: {str(error).splitlines()[0]}")
        if len(self.calls) != len(self.teacher):
            return self._mismatch(len(self.calls), "the student stops early")
        if plain_leaves(result) != self.widths.numbers[self.mode]:
            return self._mismatch(len(self.calls), f"{plain_leaves(result)} is returned besides tensors")
        return None

    def observe(self, op: Any, read: Any, outs: tuple[Any, ...]) -> None:
        number = len(self.calls) - 1
        mine = self.calls[-1]
        if number >= len(self.teacher):
            raise _Departure(f"{op} is one operation more than the teacher runs")
        theirs, prediction = self.teacher[number], self.predictions[number]
        if not same_operator(mine.op, theirs.op) or mine.inputs != theirs.inputs:
            raise _Departure(f"{mine.op} runs where the teacher runs {theirs.op}")
        shapes = tuple([tuple([self._size(la) for la in layouts]) for layouts in prediction.outs])
        if mine.shapes != shapes:
            raise _Departure(f"{op} gives {list(mine.shapes)} where the widths say {list(shapes)}")
        implied = {*prediction.sized, *(argument for argument, _, _ in prediction.expected)}
        for (key, value), (_, before) in zip(mine.constants, theirs.constants, strict=True):
            if value != before and key not in implied and repr(value) != repr(before):
                raise _Departure(f"{op} gets {value!r} where the teacher gives it {before!r}")
        given = dict(mine.constants)
        for argument, front, back in prediction.expected:
            value = given.get(argument) or 0
            expected = -self._size(back) if value < 0 else self._size(front)
            if value != expected:
                raise _Departure(f"{op} gets {value} where the widths say {expected}")

    def _size(self, layout: Layout) -> int:
        return measure(layout, self.new.__getitem__)

    def _mismatch(self, number: int, found: str) -> Mismatch:
        site = self.site
        layouts: list[Layout] = []
        if number < len(self.predictions):
            prediction = self.predictions[number]
            layouts = [la for out in prediction.outs for la in out]
            layouts += [la for _, front, back in prediction.expected for la in (front, back)]
            layouts += prediction.ins
        grown = self._grown(layouts) or self._grown(self._measured()) or self._grown(self._around())
        return Mismatch(site, found, grown)

    def _grown(self, layouts: Sequence[Layout]) -> tuple[str, ...]:
        names = dict.fromkeys(name for layout in layouts for name in atoms(layout))
        return tuple(name for name in names if self.new[name] != self.widths.width(name))

    def _around(self) -> list[Layout]:
        """The layouts of a leaf's parameters, where it refuses to run before its first operation; else all."""
        inside = f"{self.node.target}." if self.node is not None and self.node.op == "call_module" else ""
        tensors = self.widths.tensors.values()
        own = [layout for t in tensors if inside and t.name.startswith(inside) for layout in t.layouts]
        return own if self._grown(own) else [layout for t in tensors for layout in t.layouts]

    def _measured(self) -> list[Layout]:
        """The layouts of the tensors whose sizes the node at work was given, by way of plain numbers."""
        layouts: list[Layout] = []
        pending = list(self.node.all_input_nodes) if self.node else []
        seen: set[fx.Node] = set()
        while pending:
            node = pending.pop()
            if node in seen:
                continue
            seen.add(node)
            value = self.widths.nodes.get((self.mode, node.name))
            if isinstance(value, Value):
                layouts += value.layouts
            else:
                pending += node.all_input_nodes
        return layouts


class _Interpreter(fx.Interpreter):
    """Runs the student's present graph, keeping note of the place."""

    def __init__(self, student: GrownModule, tape: _CheckedTape) -> None:
        super().__init__(student, graph=student.graph)
        self.tape = tape

    def run_node(self, n: fx.Node) -> Any:
        self.tape.node = n
        self.tape.site = describe(n)
        return super().run_node(n)
