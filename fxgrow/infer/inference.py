"""Runs the graphs of a model on meta tensors and collects what the rules say. Names no operator.

Longer than other files: who listens to a run (the tape, the runner of nodes, the calls that code spells) and what is
made of it share one state, which a second file could only have by way of an interface as long as they are.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import MethodDescriptorType
from typing import Any

from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode, is_tensor_method_or_property

from ..base.structures import ArgumentPath, leaf_tensors, plain_leaves
from ..base.torch_private import pytree
from ..capture.attribute_ints import AttributeInt, Source, attribute_ints_in, remembered
from ..capture.traced import Traced
from ..errors import TraceError
from ..layouts.layout import Layout, fixed, is_fixed, of
from ..layouts.unify import Inexpressible, Kind
from ..model.call_args import labelled
from ..model.layer_kinds import ATTENTION_SIZES, ATTENTIONS, is_layer
from ..model.opaque import call
from ..model.provenance import describe
from ..model.tree import Mode, module_at
from ..ops import Linear, Value, rule_for
from ..recording.operators import decides, results_of, tensors_in
from ..recording.run import TapedRun, named_inputs
from ..recording.runner import Runner
from ..recording.tape import Tape, is_uniform
from . import literals
from .attributes import Attribute, of_module
from .findings import CARRY, Findings, Flow, KeyedValue, Prediction
from .literals import Literal, Spelling
from .rule_env import RuleEnv
from .tensor_kinds import argument_names


def infer(traced: Traced) -> Findings:
    """Run every mode of a traced model and let the rules speak.

    Raises:
        TraceError: A trace does not run what the model runs.
    """
    inference = Inference(traced)
    for mode in traced.modes:
        inference.run(mode)
    inference.add_attribute_literals()
    return inference.findings


class Inference(RuleEnv):
    """Runs the graphs, asks the rules at each call, and remembers what they say."""

    def __init__(self, traced: Traced) -> None:
        super().__init__(traced)
        self.findings.inputs = {
            name: tuple([self._input_dim(name, label, d, n) for d, n in enumerate(tensor.shape)])
            for (name, tensor), label in zip(
                named_inputs(traced.arguments).items(), labelled(traced.arguments), strict=True
            )
        }
        self.by_name: dict[str, fx.Node] = {}  # the nodes of the graph at work
        self.stated: dict[Source, Layout] = {}  # what the attributes of modules are the sizes of
        self.values: dict[int | str, Value] = {}
        self.constants: dict[int, Value] = {}  # those with one value, which the tape holds
        self._keys: list[int | str | None] = []  # of the tensors of the call at work

    def _input_dim(self, name: str, label: str, dim: int, size: int) -> Layout:
        """The layout of a dimension of an input."""
        return of(self.unifier.fresh(f"input {label}[{dim}]", size, of_input=(name, dim))) if size else fixed(0)

    # -- running ---------------------------------------------------------------------------------

    def run(self, mode: Mode) -> None:
        """Run the graph of one mode."""
        traced = self.traced
        self.mode = mode
        self.values = {
            name: Value(layouts, name, tuple((d,) for d in range(len(layouts))))
            for name, layouts in self.findings.tensors.items()
        }
        self.values.update({name: Value(layouts) for name, layouts in self.findings.inputs.items()})
        self.constants = {}
        self.findings.kinds.start()
        self.by_name = {node.name: node for node in traced.graph(mode).nodes}
        self.findings.predictions[mode] = []
        root = traced.fresh()
        run = TapedRun(root, traced.arguments, partial(_InferenceTape, self), mode=mode, real=traced.inputs.real)
        tape = run.tape
        try:
            code_is_watched = [remembered(root)] if traced.runs_code else []
            result = run.graph(traced.graph(mode), partial(_Runner, self), code_is_watched)
        except TraceError as error:
            raise TraceError(str(error).splitlines()[0]) from None  # FX appends the node to the message
        except Exception as error:
            raise TraceError(
                f"the trace of {traced.class_name} fails in {mode} mode where the model runs, at "
                f"{tape.site or 'its start'}: {type(error).__name__}: {error}"
            ) from error
        difference = run.difference(result, traced.tapes[mode])
        if difference is not None:
            what, _ = difference
            raise TraceError(f"the trace of {traced.class_name} computes something else in {mode} mode: {what}")
        self.findings.calls[mode] = tape.calls
        self.findings.numbers[mode] = plain_leaves(result)
        outputs = leaf_tensors(result)
        if not outputs:
            raise TraceError(f"{traced.class_name} returns no tensor, so there is no function to keep")
        self.findings.outputs[mode] = [self.value(tape, leaf).layouts for leaf in outputs]

    def value(self, tape: Tape, tensor: Tensor) -> Value:
        """What is known of a tensor; inputs have fixed sizes, and so have constants, but for those with one value."""
        return self._known_as(tape, tensor)[1]

    def _known_as(self, tape: Tape, tensor: Tensor) -> KeyedValue:
        real = tape.constant(tensor)
        if real is not None:
            return None, self._constant(real)
        key = tape.value_of(tensor)
        value = self.values.get(key)
        if value is None:
            value = self.values[key] = Value(tuple(fixed(n) for n in tensor.shape))
        for layout in value.invalid:
            self.pin(layout, f"positions of channels are used in {self.unifier.site}")
        return key, value

    def _constant(self, real: Tensor) -> Value:
        if not is_uniform(real):
            return Value(tuple(fixed(n) for n in real.shape), constant=True)
        value = self.constants.get(id(real))
        if value is None:
            value = self.constants[id(real)] = Value(tuple(self.elastic(n) for n in real.shape), constant=True)
        return value

    def folded(self, tape: Tape, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outs: tuple[Any, ...]) -> None:
        """A call on constants: what it makes from nothing, or a view of such, follows the widths that it meets."""
        rule = rule_for(op)
        reals = [real for o in outs if isinstance(o, Tensor) and (real := tape.constant(o)) is not None]
        if rule is None or rule.linear not in ("fresh", "each") or op._schema.is_mutable or len(reals) < len(outs):
            return
        given = [tape.constant(t) for a in (*args, *kwargs.values()) for t in tensors_in(a)]
        if rule.linear == "fresh":
            for real in reals:
                self._constant(real)
        elif all(id(real) in self.constants for real in given) and not any(id(r) in self.constants for r in reals):
            declared, self._declared = self._declared, {}
            self.op, self.outs = op, tuple([tuple(real.shape) for real in reals])
            with suppress(Inexpressible, IndexError, ValueError, TypeError):
                values, named = self.arguments(tape, args, kwargs)
                for real, result in zip(reals, self._results(rule.function(self, *values, **named)), strict=True):
                    self.constants[id(real)] = Value(result.layouts, constant=True)
            self._declared = declared

    def arguments(self, tape: Tape, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call as rules take them."""
        self.strides = tuple([a.stride() for a in args if isinstance(a, Tensor)])
        self.dtypes = tuple([t.dtype for a in args for t in tensors_in(a)])
        self._keys = []
        return [self._given(tape, a) for a in args], {key: self._given(tape, a) for key, a in kwargs.items()}

    def call(self, tape: Tape, op: Any, given: list[Any], named: dict[str, Any], outs: tuple[Any, ...]) -> None:
        """One ATen call: apply its rule, or pin whatever it touches."""
        self.op = op
        self.outs = tuple([tuple(o.shape) if isinstance(o, Tensor) else () for o in outs])
        self._contracted, self._expected = Counter(), []
        self._summed, self._norm = [], None
        touched = list(_values((*given, *named.values())))
        rule = rule_for(op)
        try:
            if rule is None:
                raise Inexpressible(f"{op} has no rule")
            results = self._results(rule.function(self, *given, **named))
        except (Inexpressible, IndexError, ValueError, TypeError) as error:  # an odd call, such as cat of nothing
            for value in touched:
                for layout in value.layouts:
                    self.pin(layout, f"{error} (in {self.unifier.site})")
            results = [Value(tuple(fixed(n) for n in shape)) for shape in self.outs]
        if op._schema.is_mutable and given and isinstance(given[0], Value):
            self._written(given[0], touched)
        derived = {result.origin for result in results}
        self._carry([value for value in touched if value.origin not in derived])
        for out, result in zip(outs, results, strict=True):
            if isinstance(out, Tensor):
                self.values[tape.value_of(out)] = result
        self.findings.kinds.call(
            op,
            rule,
            list(zip(argument_names(op, given, named), self._keys, touched, strict=True)),
            [(tape.value_of(o), r) for o, r in zip(outs, results, strict=True) if isinstance(o, Tensor)],
            contracts=bool(self._summed),
        )
        decided = outs if tape.real and decides(op) else None
        wide = tuple([layout for value in touched for layout in value.layouts if not is_fixed(layout)])
        self.findings.predictions[self.mode].append(
            Prediction(
                wide,
                tuple([r.layouts for r in results]),
                tuple(self._expected),
                rule.sized if rule else (),
                self._flow(tape, rule.linear if rule else "", touched, given, results, outs),
                decided,
            )
        )

    def _flow(
        self,
        tape: Tape,
        linear: Linear,
        touched: list[Value],
        given: list[Any],
        results: list[Value],
        outs: tuple[Any, ...],
    ) -> Flow:
        def position(value: Value | None) -> int | None:
            return next((i for i, other in enumerate(touched) if other is value), None)

        norm = None
        if self._norm is not None:
            weight, bias, norm = self._norm
            norm = replace(norm, weight=position(weight), bias=position(bias))
        tensors = [(o, r) for o, r in zip(outs, results, strict=True) if isinstance(o, Tensor)]
        return Flow(
            linear,
            tuple(zip(self._keys, touched, strict=True)),
            tuple([(tape.value_of(o), r) for o, r in tensors]),
            tuple([(at, dim) for value, dim in self._summed if (at := position(value)) is not None]),
            norm,
            self.op._schema.is_mutable,
            any(isinstance(a, int | float) for a in given[:2]),
            all(o.is_floating_point() for o, _ in tensors),
        )

    def _written(self, target: Value, touched: list[Value]) -> None:
        """Memory that began as a constant: whoever else sees it does not know what it now holds."""
        if target.constant:
            for value in touched:
                for layout in value.layouts:
                    self.pin(layout, f"it is written into a constant in {self.unifier.site}")

    def _given(self, tape: Tape, argument: Any) -> Any:
        if not isinstance(argument, Tensor):
            several = isinstance(argument, list | tuple) and any(isinstance(a, Tensor) for a in argument)
            return [self._given(tape, a) for a in argument] if several else argument
        key, value = self._known_as(tape, argument)
        self._keys.append(key)
        return value

    def _results(self, outcome: Any) -> list[Value]:
        parts = outcome if isinstance(outcome, list) else [outcome]
        results = [part if isinstance(part, Value) else Value(tuple(part)) for part in parts]
        if tuple(r.shape for r in results) != self.outs:
            raise Inexpressible(f"the rule of {self.op} says {[r.shape for r in results]} for {list(self.outs)}")
        return results

    def _carry(self, touched: list[Value]) -> None:
        for value in touched:
            for dim, sources in enumerate(value.dims):
                if self._contracted[id(value), dim]:  # of an argument that is given twice, only one contracts
                    self._contracted[id(value), dim] -= 1
                    continue
                for source in sources:
                    self.findings.roles.setdefault((value.origin, source), set()).add(CARRY)

    def leave(self, tape: Tape, node: fx.Node, result: Any) -> None:
        """A node of the graph is done: keep its layouts, and what it declared about sizes."""
        self.findings.nodes[self.mode, node.name] = self._known(tape, result)
        for literal in literals.of_node(node, self.mode, self.findings.nodes, self._declared):
            self.findings.literals.append(literal)
            if literal.part is None and literal.path[0] != literals.PART:
                self._state(literals.read(self.by_name[literal.node], literal.path), literal.layout)
        self._declared = {}

    def _state(self, value: Any, layout: Layout) -> None:
        """A size in the user's code is that of a layout; if it was read from an attribute, that follows."""
        if type(value) is AttributeInt:
            self.stated[value.source] = layout

    def _state_in_code(self, value: Any, layout: Layout) -> None:
        """The same where code reads the attribute each time: all that it is the size of has one size."""
        if type(value) is AttributeInt:
            with suppress(Inexpressible):  # the check of the student finds what that leaves
                self.unify(self.stated.get(value.source, layout), layout)
        self._state(value, layout)

    def spelled(self, tape: Tape, spelling: Spelling, run: Callable[[], Any]) -> Any:
        """Run a call of code that is in no graph, and see which of its sizes are attributes."""
        before, declared = self.spelling, self._declared
        self.spelling, self._declared = spelling, {}
        try:
            result = run()
            source = literals.source_of(spelling)
            if any(attribute_ints_in((spelling.args, spelling.kwargs))):
                known = self.values.get(tape.known(source) or 0) if isinstance(source, Tensor) else None
                for path, layout, *span in literals.sizes_of(
                    spelling, known, self._known(tape, result), self._declared
                ):
                    if path[0] != literals.PART:
                        bound = literals.read(spelling, path)
                        with suppress(Inexpressible):
                            self._state_in_code(bound, self.cut(layout, bound)[0] if span and bound > 0 else layout)
            return result
        finally:
            self.spelling, self._declared = before, {**declared, **self._declared}

    def _known(self, tape: Tape, structure: Any) -> Any:
        def known(leaf: Any) -> Value | None:
            if not isinstance(leaf, Tensor):
                return None
            real = tape.constant(leaf)
            return self.values.get(tape.known(leaf) or 0) if real is None else self.constants.get(id(real))

        return known(structure) if isinstance(structure, Tensor) else pytree.tree_map(known, structure)

    def add_attribute_literals(self) -> None:
        """Attributes whose layout is known, and every other place in the graphs that they were passed on to."""
        for path, name, index in self.stated:
            value = getattr(module_at(self.traced.root, path), name, None)
            if index < 0:
                self.findings.attributes.append(Attribute(path, name, (self.stated[path, name, index],)))
            elif isinstance(value, tuple | list):
                entries = tuple(self.stated.get((path, name, i), fixed(v)) for i, v in enumerate(value))
                self.findings.attributes.append(Attribute(path, name, entries))
        found = {(li.mode, li.node, li.path) for li in self.findings.literals}
        for mode in self.traced.modes:
            for node in self.traced.graph(mode).nodes:
                for kind, arguments in (("args", node.args), ("kwargs", node.kwargs)):
                    for steps, value in attribute_ints_in(arguments):
                        place: ArgumentPath = (kind, *steps)
                        if value.source in self.stated and (mode, node.name, place) not in found:
                            layout = self.stated[value.source]
                            self.findings.literals.append(Literal(mode, node.name, place, layout))

    # -- modules that are called -----------------------------------------------------------------

    def enter(self, tape: Tape, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A module is called."""
        if isinstance(module, ATTENTIONS):
            self._attention(tape, module)

    def leave_module(self, tape: Tape, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        """A module returns: sizes that it states of what goes in and what comes out."""
        if isinstance(module, ATTENTIONS):
            for name, given in zip(ATTENTION_SIZES, args, strict=False):
                read = self.values.get(tape.known(given) or 0) if isinstance(given, Tensor) else None
                if read is not None:
                    self.findings.attributes.append(Attribute(tape.module, name, read.layouts[-1:]))
        if args and isinstance(args[0], Tensor):
            value = self.values.get(tape.known(args[0]) or 0)
            if value is not None:
                known = self._known(tape, result)
                self.findings.attributes.extend(of_module(tape.module, module, value, known))

    def _attention(self, tape: Tape, module: nn.MultiheadAttention) -> None:
        """Its heads are rows of its weights, of which any number may be; their size is a literal."""
        sizes: list[int] = [module.num_heads, module.head_dim]
        kinds: list[Kind] = ["count", "fixed"]
        if module.in_proj_weight is not None:
            sizes, kinds = [3, *sizes], ["fixed", *kinds]
        rows = module.in_proj_weight if module.in_proj_weight is not None else module.q_proj_weight
        parts = self.unifier.split_into(self.value(tape, rows).layouts[0], sizes, kinds)
        self.findings.attributes.append(Attribute(tape.module, "num_heads", (parts[-2],)))


class _InferenceTape(Tape):
    """A tape that asks the inference at each call."""

    def __init__(
        self, inference: Inference, names: dict[str, Tensor], attributes: Iterable[Tensor], *, real: bool
    ) -> None:
        super().__init__(names, attributes, real=real)
        self.inference = inference

    def entered(self, module: Any, args: tuple[Any, ...]) -> None:
        self.inference.enter(self, module, args)

    def left(self, module: Any, args: tuple[Any, ...], result: Any) -> None:
        self.inference.leave_module(self, module, args, result)

    def _fold(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = super()._fold(op, args, kwargs)
        self.inference.folded(self, op, args, kwargs, results_of(out))
        return out

    def reading(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.inference.arguments(self, args, kwargs)

    def observe(self, op: Any, read: Any, outs: tuple[Any, ...]) -> None:
        given, named = read
        self.inference.unifier.site = self.site_of(op)
        self.inference.called = self.module if self.called else None
        self.inference.call(self, op, given, named, outs)


class _Runner(Runner):
    """Runs a graph, telling the inference which node is at work."""

    def __init__(self, inference: Inference, root: nn.Module, graph: fx.Graph, tape: Tape) -> None:
        super().__init__(root, graph, tape)
        self.inference = inference

    def run_node(self, n: fx.Node) -> Any:
        self.inference.node = n
        self.inference.unifier.site = describe(n)
        if self._runs_code(n):
            with _Spelled(self.inference, self.tape):
                result = super().run_node(n)
        else:
            result = super().run_node(n)
        self.inference.leave(self.tape, n, result)
        return result

    def _runs_code(self, node: fx.Node) -> bool:
        """Whether a node runs code of the user's, which no graph shows."""
        if node.op == "call_module":
            return not is_layer(self.called[str(node.target)])
        if node.op != "call_function":
            return False
        module = getattr(node.target, "__module__", None) or "torch"
        return module == call.__module__ or module.split(".")[0] not in _KNOWN


_KNOWN = ("torch", "_operator", "builtins", "math", "fxgrow")


class _Spelled(TorchFunctionMode):
    """Sees the calls of torch that code in no graph makes, as it spells them."""

    def __init__(self, inference: Inference, tape: Tape) -> None:
        super().__init__()
        self.inference = inference
        self.tape = tape

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        of_tensors = isinstance(func, MethodDescriptorType) or is_tensor_method_or_property(func)
        target = func.__name__ if of_tensors else func
        if target == "__getitem__":
            target = operator.getitem
        return self.inference.spelled(self.tape, Spelling(target, args, named), lambda: func(*args, **named))


def _values(arguments: Sequence[Any]) -> Iterator[Value]:
    for argument in arguments:
        if isinstance(argument, Value):
            yield argument
        elif isinstance(argument, list):
            yield from (a for a in argument if isinstance(a, Value))
