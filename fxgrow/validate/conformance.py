"""Compares the student with its plan on meta tensors, before any number is computed.

The student must make the teacher's ATen calls, with the shapes and the integer arguments that the layouts predict, and
with all other constants unchanged. A size that the rewriting missed (``x / x.shape[1]``, a literal in an unusual place)
is a mismatch here, and its widths are then pinned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..base.progress import advance, step
from ..capture.proxy import guard
from ..infer.findings import Prediction
from ..infer.groups import can_grow
from ..infer.width_graph import WidthGraph
from ..layouts.layout import Layout, atoms, fixed, is_fixed, measure, only_atom, product
from ..model.example_inputs import brief
from ..model.layer_kinds import is_layer
from ..model.provenance import SOURCE_LINE, caller
from ..model.tree import Mode, graph_for
from ..model.walk import named_modules
from ..ops import Value
from ..plans.growth_plan import Plan
from ..recording import runner as interpret
from ..recording.call import WITHOUT_GRADIENTS, Reading
from ..recording.operators import kind_of, results_of, same_operator
from ..recording.returned import Returned
from ..recording.run import TapedRun
from ..recording.runner import Runner
from ..recording.tape import Tape
from ..rewrite.student_inputs import padded
from .asked import returned_at
from .compared import compared
from .refusals import code_refuses, operator_gives, operator_refuses
from .verdict import Mismatch, Verdict


def check_conformance(root: nn.Module, graphs: Mapping[Mode, fx.Graph], widths: WidthGraph, plan: Plan) -> Verdict:
    """Run a student's graphs on meta tensors in every mode, and compare each call with its plan."""
    new = {name: group.size for name, group in widths.groups_by_name.items()} | {w.name: w.new for w in plan.groups}
    variance = {width.name: width.variance for width in plan.groups if width.mean_channels}
    mismatches: dict[Mismatch, None] = {}
    obsolete: dict[tuple[Mode, str], None] = {}
    reached: set[str] = set()
    layers = _layers(root)
    with step("checking", sum(len(graph_for(graphs, mode).nodes) for mode in widths.traced.modes)):
        for mode in widths.traced.modes:
            student = widths.traced.to_run(root)
            checked = partial(_CheckedTape, widths, mode, new, variance, layers)
            run = TapedRun(
                student, padded(plan, widths.traced.arguments), checked, mode=mode, real=widths.traced.inputs.real
            )
            _compare(run, graph_for(graphs, mode))
            mismatches.update(dict.fromkeys(run.tape.mismatches))
            obsolete.update(dict.fromkeys((mode, node) for node in run.tape.obsolete))
            reached |= run.tape.reached
    return Verdict(tuple(mismatches), tuple(obsolete), frozenset(reached))


def _layers(student: nn.Module) -> frozenset[str]:
    return frozenset(name for name, module in named_modules(student) if not module._modules and is_layer(module))


def _compare(run: TapedRun[_CheckedTape], graph: fx.Graph) -> None:
    """Run a student's graph; its tape notes where it departs from the plan."""
    tape = run.tape
    try:
        result = run.graph(graph, _Runner)
    except Exception as error:  # noqa: BLE001 - whatever the model raises where a size is not what it expects
        if not tape.departed:
            tape.mismatch(code_refuses(error), raised=True)
        return
    if tape.failure is not None:  # and the model has caught it
        tape.mismatch(code_refuses(tape.failure), raised=True)
        tape.failure = None  # its traceback holds the tape
    elif not tape.departed:
        tape.finish(run.returned(result), graph)


COPY, VIEW = torch.ops.aten.clone.default, torch.ops.aten.view.default


class _Departure(Exception):
    """The student runs another operator than the teacher, so that later calls cannot be compared.

    Code of the user's may catch it and go on.
    """


class _CheckedTape(Tape):
    """A tape that compares each call with what is predicted.

    Where only sizes are wrong, the call's result gets the predicted ones and the run goes on, so that one run
    finds every such place.
    """

    def __init__(
        self,
        widths: WidthGraph,
        mode: Mode,
        new: Mapping[str, int],
        variance: Mapping[str, float],
        layers: AbstractSet[str],
        names: Mapping[str, Tensor],
        attributes: Iterable[Tensor],
        *,
        real: bool,
    ) -> None:
        super().__init__(names, attributes, real=real)
        self.layers = layers
        self.widths = widths
        self.mode = mode
        self.stated: dict[str, list[Layout]] = {}  # by node: what its literals are the sizes of
        for literal in widths.literals:
            if literal.mode == mode:
                self.stated.setdefault(literal.node, []).append(literal.layout)
        self.teacher = widths.calls[mode]
        self.predictions = widths.predictions[mode]
        self.new = new
        self.variance = variance
        self.node: fx.Node | None = None
        self.mismatches: list[Mismatch] = []
        self.departed = False  # whether the student has run another operator than the teacher
        self.obsolete: list[str] = []
        self.reached: set[str] = set()

    def __torch_dispatch__(
        self, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        number = len(self.calls)
        if op is COPY and number < len(self.teacher) and same_operator(VIEW, self.teacher[number].op):
            reading = self._read(kind_of(op), args, kwargs or {})
            if reading.inputs == self.teacher[number].inputs:
                # what reshape() copies is a view in the teacher, where a number of heads is 1: the same value
                copy = super().execute(op, args, kwargs or {}, reading)
                self.stand_for(copy, args[0])
                return copy
        return super().__torch_dispatch__(op, types, args, kwargs)

    def finish(self, returned: Returned, graph: fx.Graph) -> None:
        """The run is over: it must have made all of the teacher's calls, and leave the same values behind."""
        if len(self.calls) != len(self.teacher):
            self.mismatch("the student stops early")
        elif difference := returned.difference(self.widths.returned[self.mode]):
            what, path = difference
            self.mismatch(what, measured=self._measured(returned_at(graph, path)))

    def execute(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], reading: Reading) -> Any:
        number = len(self.calls)
        if self.departed:
            raise _Departure
        self.reached.add(self._code())
        if number >= len(self.teacher):
            self._try(op, args, kwargs, reading)
            raise self._departure(f"{op} is one operation more than the teacher runs")
        theirs, prediction = self.teacher[number], self.predictions[number]
        if (WITHOUT_GRADIENTS in reading.constants) != (WITHOUT_GRADIENTS in theirs.constants):
            both = ("without", "with") if WITHOUT_GRADIENTS in reading.constants else ("with", "without")
            raise self._departure(f"{op} runs {both[0]} gradients where the teacher runs it {both[1]} them")
        alike = same_operator(op, theirs.op) and len(reading.constants) == len(theirs.constants)
        if not alike or reading.inputs != theirs.inputs:
            self._try(op, args, kwargs, reading)
            raise self._departure(f"{op} runs where the teacher runs {theirs.op}")
        shapes = tuple([tuple([self._size(la) for la in layouts]) for layouts in prediction.outs])
        if prediction.decided is not None and all(is_fixed(la) for layouts in prediction.outs for la in layouts):
            return self._as_decided(op, prediction.decided)  # rounding must not take another path than the teacher
        try:
            out = super().execute(op, args, kwargs, reading)
        except Exception as error:  # noqa: BLE001 - the operator refuses sizes that do not fit
            self.mismatch(operator_refuses(op, args, error))
            return self._predicted(op, shapes, args)
        outs = results_of(out)
        given = tuple([tuple(o.shape) if isinstance(o, Tensor) else () for o in outs])
        if given != shapes:
            equal = self._equal_parts(prediction, given, shapes)
            self.mismatch(operator_gives(op, given, shapes), equal, wrong=_differing(prediction, given, shapes))
            return self._predicted(op, shapes, args)
        scaled = self._scaled(prediction)
        implied = {*prediction.sized, *(argument for argument, _, _ in prediction.expected)}
        for (key, value), (_, before) in zip(reading.constants, theirs.constants, strict=True):
            if key in scaled:
                before = before * scaled[key]
            if value != before and key not in implied and repr(value) != repr(before):
                says = "the plan says" if key in scaled else "the teacher gives it"
                self.mismatch(f"{op} gets {brief(value)} where {says} {brief(before)}")
        named = dict(reading.constants)
        for argument, front, back in prediction.expected:
            value = named.get(argument) or 0
            expected = -self._size(back) if value < 0 else self._size(front)
            if value != expected:
                self.mismatch(f"{op} gets {value} where the widths say {expected}")
        return out

    def _try(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], reading: Reading) -> None:
        """Make a call that is none of the teacher's: if it fails, the teacher's code may have caught that, too."""
        if not op._schema.is_mutable:
            super().execute(op, args, kwargs, reading)

    def _departure(self, problem: str) -> _Departure:
        self.mismatch(problem)
        self.departed = True
        return _Departure(problem)

    def _scaled(self, prediction: Prediction) -> dict[int | str, float]:
        """The constants that the plan changes: eps of a layer norm over channels of which some carry means."""
        norm = prediction.flow.norm
        if norm is None:
            return {}
        name = only_atom(prediction.flow.ins[0][1].layouts[-1])
        return {norm.argument: self.variance[name]} if isinstance(name, str) and name in self.variance else {}

    def _as_decided(self, op: Any, decided: tuple[Any, ...]) -> Any:
        outs = tuple([o.clone() if isinstance(o, Tensor) else o for o in decided])
        returns = op._schema.returns
        return outs if len(returns) != 1 or "[]" in str(returns[0].type) else outs[0]

    def _predicted(self, op: Any, shapes: Sequence[Sequence[int]], args: tuple[Any, ...]) -> Any:
        """What a call would give by the plan, so that the run goes on and meets what else there is."""
        given = next((a for a in args if isinstance(a, Tensor)), torch.empty(0, device="meta"))
        outs = [torch.zeros(tuple(shape), dtype=given.dtype, device=given.device) for shape in shapes]
        returns = op._schema.returns
        return outs[0] if len(returns) == 1 and str(returns[0].type) == "Tensor" else tuple(outs)

    def _size(self, layout: Layout) -> int:
        return measure(layout, self.new.__getitem__)

    def _equal_parts(
        self, prediction: Prediction, given: Sequence[Sequence[int]], shapes: Sequence[Sequence[int]]
    ) -> tuple[tuple[Layout, Layout], ...]:
        """Pairs of layouts that are equal if the code cuts a dimension into as many equal parts as in the teacher."""
        pairs: dict[tuple[Layout, Layout], None] = {}
        value = prediction.flow.ins[0][1] if prediction.flow.ins and len(given) > 1 else Value(())
        for out, sizes, ours in zip(prediction.outs, shapes, given, strict=True):
            if len(out) != len(value.layouts) or len(ours) != len(out):
                continue
            for part, dimension, says, is_ in zip(out, value.layouts, sizes, ours, strict=True):
                times, rest = divmod(self._old(dimension), self._old(part) or 1)
                if says != is_ and not rest and abs(times * is_ - self._size(dimension)) < times:
                    pairs.setdefault((product([fixed(times), part]), dimension))
        return tuple(pairs)

    def _old(self, layout: Layout) -> int:
        return measure(layout, self.widths.width)

    def mismatch(
        self,
        problem: str,
        equal: tuple[tuple[Layout, Layout], ...] = (),
        measured: Sequence[Layout] | None = None,
        *,
        raised: bool = False,
        wrong: Sequence[Layout] = (),
    ) -> None:
        """Note what happens at the call at work where the plan predicts something else.

        Args:
            problem: What happens.
            equal: As in `Mismatch`.
            measured: Layouts whose sizes led to it; None: those of the tensors that the node at work asks for sizes.
            raised: Whether it happens between two calls, so that the next one need not have to do with it.
            wrong: The layouts of the dimensions that have another size than predicted.
        """
        number = len(self.calls)
        layouts: list[Layout] = []
        if measured is None:
            measured = self._measured(self.node.all_input_nodes if self.node else ())
        if number < len(self.predictions):
            prediction = self.predictions[number]
            layouts = [la for out in prediction.outs for la in out]
            layouts += [la for _, front, back in prediction.expected for la in (front, back)]
            if prediction.flow.linear != "fresh":  # else what goes in says nothing of the sizes
                layouts += prediction.ins
        met = next((some for some in (layouts, measured) if self._grown(some)), None)
        guessed = raised or met is None
        met = self._around() if met is None else met
        grown = self._grown(met)
        where = caller(within=interpret.__file__) if self.called else ""
        if self.node is not None and not where:
            where = str(self.node.meta.get(SOURCE_LINE, ""))
        site, code = self.site_of(None), self._code()
        around = tuple([name for name in self.widths.inside(code) if self.new[name] != self.widths.width(name)])
        idle = (
            self._idle(name for la in (*met, *measured) for name in atoms(la)),
            self._idle(self.widths.inside(code)),
        )
        site = f"{site} ({where})" if where else site
        off = self._grown(wrong)
        self.mismatches.append(Mismatch(site, problem, grown, code, around, equal, idle, guessed, off))

    def _code(self) -> str:
        """The innermost module at work whose code is not a layer's."""
        path = self.module
        while path and path in self.layers:
            path = path.rpartition(".")[0]
        return path

    def _grown(self, layouts: Sequence[Layout]) -> tuple[str, ...]:
        names = dict.fromkeys(name for layout in layouts for name in atoms(layout))
        return tuple(name for name in names if self.new[name] != self.widths.width(name))

    def _idle(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of some widths that could grow and do not."""
        groups = self.widths.groups_by_name
        kept = [n for n in dict.fromkeys(names) if self.new[n] == groups[n].size and can_grow(groups[n])]
        return tuple([n for n in kept if groups[n].members])

    def _around(self) -> list[Layout]:
        """The layouts of the parameters of the module at work, where it refuses to run on; else of all."""
        tensors = self.widths.tensors.values()
        path = self.module
        while path:
            own = [layout for t in tensors if t.name.startswith(f"{path}.") for layout in t.layouts]
            if self._grown(own):
                return own
            path = path.rpartition(".")[0]
        return [layout for t in tensors for layout in t.layouts]

    def asked(self, node: fx.Node) -> None:
        """Report a guard that compares a growing width with another size; one on growing widths alone is fine."""
        growing, others = compared(node, self.widths, self.mode, self.stated, self._grown)
        if growing and others:
            where = str(node.meta.get(SOURCE_LINE, ""))
            text = "the code compares a width with another size"
            self.mismatches.append(Mismatch(f"{self.site} ({where})", text, growing, self._code(), ()))

    def _measured(self, nodes: Iterable[fx.Node]) -> list[Layout]:
        """The layouts of the tensors whose sizes nodes were given, by way of plain numbers and constants."""
        layouts: list[Layout] = []
        pending = list(nodes)
        seen: set[fx.Node] = set()
        while pending:
            node = pending.pop()
            if node in seen:
                continue
            seen.add(node)
            value = self.widths.nodes.get((self.mode, node.name))
            if isinstance(value, Value) and not value.constant:
                layouts += value.layouts
            else:
                pending += node.all_input_nodes
        return layouts


def _differing(prediction: Prediction, given: Sequence[Sequence[int]], shapes: Sequence[Sequence[int]]) -> list[Layout]:
    """The layouts of the dimensions of a call's results that have another size than predicted."""
    return [
        layout
        for out, ours, says in zip(prediction.outs, given, shapes, strict=True)
        if len(ours) == len(says)
        for layout, is_, predicted in zip(out, ours, says, strict=True)
        if is_ != predicted
    ]


class _Runner(Runner):
    """Runs the student's graph, and tells the tape which node runs."""

    tape: _CheckedTape

    def run_node(self, n: fx.Node) -> Any:
        self.tape.node = n
        result = super().run_node(n)
        advance()
        return result

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if target is guard and self.tape.node is not None:
            self.tape.asked(self.tape.node)
            if args[0] != args[1]:
                self.tape.obsolete.append(self.tape.node.name)
            return None
        return super().call_function(target, args, kwargs)
