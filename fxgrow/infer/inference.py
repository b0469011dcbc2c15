"""Runs the graphs of a model on meta tensors and collects what the rules say. Names no operator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, fx, nn

from ..base.progress import step
from ..base.structures import leaf_tensors
from ..capture.attribute_ints import attribute_ints_in, remembered
from ..capture.traced import Traced
from ..errors import TraceError
from ..layouts.layout import fixed, is_fixed, of
from ..layouts.unify import Inexpressible, Unifier
from ..model.copies import named_tensors
from ..model.layer_kinds import is_layer
from ..model.provenance import describe
from ..model.tree import Mode, module_at
from ..model.walk import submodule
from ..ops import Linear, Value, rule_for
from ..ops.infinities import INFINITE, infinities
from ..ops.registry import is_pointwise
from ..recording.operators import decides, tensors_in
from ..recording.run import TapedRun
from ..recording.tape import Tape
from . import literals, module_rules
from .attribute_sizes import AttributeSizes
from .findings import CARRY, Findings, Flow, KeyedValue, Prediction
from .input_layouts import input_layouts
from .mixing import may_follow_sizes, mixed_layouts, takes_computed_numbers
from .observer import ObservedRunner, ObservedTape, Observer
from .rule_env import Arguments, CallContext, RuleEnv, Scope, cut
from .spellings import PART, Spelling, read, source_of
from .tensor_kinds import argument_names
from .values import KnownValues


def infer(traced: Traced, *, checked: bool = True) -> Findings:
    """Run every mode of a traced model and let the rules speak.

    Args:
        traced: The model.
        checked: Whether its graphs have to compute what the model computes.

    Raises:
        TraceError: A trace does not run what the model runs, or does not run.
    """
    findings = _nothing_found(traced)
    sizes = AttributeSizes(findings.unifier)
    with step("inference", sum(len(traced.graph(mode).nodes) for mode in traced.modes)):
        for mode in traced.modes:
            Inference(traced, mode, findings, sizes).run(checked=checked)
        for form in traced.forms:
            own = findings.of_form(input_layouts(findings.unifier, form.arguments, findings.inputs))
            for mode in form.modes:
                Inference(form, mode, own, sizes).run()
    sizes.add_to(findings, traced)
    return findings


def _nothing_found(traced: Traced) -> Findings:
    """Findings with one variable for each dimension of each parameter, buffer and input."""
    unifier = Unifier()
    tensors = {
        name: tuple(of(unifier.fresh(f"{name}[{d}]", n)) if n else fixed(0) for d, n in enumerate(tensor.shape))
        for name, tensor in named_tensors(traced.root).items()
    }
    return Findings(unifier, tensors, input_layouts(unifier, traced.arguments, {}))


class Inference(Observer):
    """Runs the graph of one mode, asks the rules at each call, and adds what they say to the findings."""

    def __init__(
        self,
        traced: Traced,
        mode: Mode,
        findings: Findings,
        sizes: AttributeSizes,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.traced = traced
        self.arguments = traced.arguments if arguments is None else arguments
        self.mode = mode
        self.findings = findings
        self.unifier = findings.unifier
        self.sizes = sizes
        self.values = KnownValues(findings, traced.infinite)
        self.nodes = {node.name: node for node in traced.graph(mode).nodes}
        self.predictions = findings.predictions.setdefault(mode, [])
        self.scope = Scope(mode)
        self._layers: dict[str, bool] = {}  # the modules that calls were made in: whether it is a layer

    def run(self, *, checked: bool = True) -> None:
        """Run the graph on the example inputs.

        Raises:
            TraceError: It does not run what the model runs.
        """
        traced, mode, run = self.traced, self.mode, self.start()
        tape = run.tape
        try:
            result = self.run_graph(run)
        except TraceError as error:
            raise TraceError(str(error).splitlines()[0]) from None  # FX appends the node to the message
        except Exception as error:
            raise TraceError(
                f"the trace of {traced.class_name} fails in {mode} mode where the model runs, at "
                f"{tape.site or 'its start'}: {type(error).__name__}: {error}"
            ) from error
        difference = run.difference(result, traced.tapes[mode]) if checked else None
        if difference is not None:
            what, _ = difference
            raise TraceError(f"the trace of {traced.class_name} computes something else in {mode} mode: {what}")
        if not self.findings.outputs[mode]:
            raise TraceError(f"{traced.class_name} returns no tensor, so there is no function to keep")

    def start(self) -> TapedRun[ObservedTape]:
        """A run of the graph."""
        self.findings.kinds.start()
        root, real = self.traced.fresh(), self.traced.inputs.real
        return TapedRun(root, self.arguments, partial(ObservedTape, self), mode=self.mode, real=real)

    def run_graph(self, run: TapedRun[ObservedTape]) -> Any:
        """What the graph returns for the arguments; it may raise anything."""
        code_is_watched = [remembered(run.root)] if self.traced.runs_code else []
        result = run.graph(self.traced.graph(self.mode), partial(ObservedRunner, self), code_is_watched)
        self.findings.calls[self.mode] = run.tape.calls
        self.findings.returned[self.mode] = run.returned(result)
        returned = [self.values.of(run.tape, leaf) for leaf in leaf_tensors(result)]
        self.findings.outputs[self.mode] = [value.layouts for value in returned]
        for value in returned:
            self._use_means(value)
        return result

    # -- ATen calls ------------------------------------------------------------------------------

    def read(self, tape: Tape, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        return self.values.arguments(tape, op, args, kwargs)

    def called(self, tape: Tape, op: Any, read: Arguments, outs: tuple[Any, ...]) -> None:
        """Apply the rule of a call, or pin whatever it touches."""
        self.unifier.site = tape.site_of(op)
        shapes = tuple([tuple(o.shape) if isinstance(o, Tensor) else () for o in outs])
        context = CallContext(op, rule_for(op), shapes, read, self.scope, tape.module if tape.called else None)
        touched = list(_values((*read.args, *read.kwargs.values())))
        divisions = self.unifier.divisions
        results = self._with_infinities(context, self._results(context, touched))
        if not self._is_known(tape):
            divided = self.unifier.divisions > divisions or self._could_divide(tape, context)
            mixed = mixed_layouts(results, divided=divided)
            self.findings.mixed.update(dict.fromkeys(mixed))
        if op._schema.is_mutable and read.args and isinstance(read.args[0], Value):
            self._written(read.args[0], touched)
        self._carry(context, touched, results)
        given = list(zip(outs, results, strict=True))
        keyed = [(tape.value_of(out), result) for out, result in given if isinstance(out, Tensor)]
        self.values.set(keyed)
        names = argument_names(op, read.args, read.kwargs)
        ins = list(zip(names, read.keys, touched, strict=True))
        self.findings.kinds.call(op, context.rule, ins, keyed, contracts=bool(context.summed))
        self.predictions.append(self._prediction(tape, context, touched, results, outs, keyed))

    def _is_known(self, tape: Tape) -> bool:
        """Whether a call means the same for all sizes of the inputs: a layer's, or one with plain numbers."""
        if tape.called:
            return self._is_layer(tape.module)
        node = self.scope.node
        return node is not None and not may_follow_sizes(node, self.mode, self.findings.nodes, self.unifier)

    def _is_layer(self, path: str) -> bool:
        known = self._layers.get(path)
        if known is None:
            known = self._layers[path] = is_layer(submodule(module_at(self.traced.root, ""), path))
        return known

    def _could_divide(self, tape: Tape, context: CallContext) -> bool:
        """Whether a call states sizes that could be others for other sizes of the inputs."""
        rule, node = context.rule, self.scope.node
        if tape.called and is_pointwise(context.op):  # a number that code computed, such as `min(width, batch)`
            return any(type(argument) is int for argument in context.arguments.args)
        if not (rule is not None and rule.sized) and not self.scope.declared:
            return False
        return tape.called or node is None or takes_computed_numbers(node, self.mode, self.findings.nodes)

    def _results(self, context: CallContext, touched: Sequence[Value]) -> list[Value]:
        """What a call gives; where no rule can tell, all that it takes is pinned."""
        rule = context.rule
        try:
            if rule is None:
                raise Inexpressible(f"{context.op} has no rule")
            return self._by_rule(rule.function, context)
        except (Inexpressible, IndexError, ValueError, TypeError) as error:  # an odd call, such as cat of nothing
            for layout in (layout for value in touched for layout in value.layouts):
                self.unifier.pin(layout, f"{error} (in {self.unifier.site})")
            return [Value(tuple(fixed(n) for n in shape)) for shape in context.outs]

    def _with_infinities(self, context: CallContext, results: list[Value]) -> list[Value]:
        """The results with what is known of infinities in them; where these meet, new channels have to be replicas."""
        read = context.arguments
        found = infinities(context.op, read.args, read.kwargs, read.dtypes)
        name = context.op._schema.name.partition("::")[2]
        for layout in found.replicas:
            self.findings.replicas.append((layout, f"{name}, which {INFINITE}, in {self.unifier.site}"))
        return [replace(result, infinite=True) for result in results] if found.infinite else results

    def _by_rule(self, rule: Callable[..., Any], context: CallContext) -> list[Value]:
        read = context.arguments
        outcome = rule(RuleEnv(self.traced, self.findings, context), *read.args, **read.kwargs)
        parts = outcome if isinstance(outcome, list) else [outcome]
        results = [part if isinstance(part, Value) else Value(tuple(part)) for part in parts]
        if tuple(r.shape for r in results) != context.outs:
            shapes = [r.shape for r in results]
            raise Inexpressible(f"the rule of {context.op} says {shapes} for {list(context.outs)}")
        return results

    def _written(self, target: Value, touched: Sequence[Value]) -> None:
        """Memory that began as a constant: whoever else sees it does not know what it now holds."""
        if target.constant:
            for value in touched:
                for layout in value.layouts:
                    self.unifier.pin(layout, f"it is written into a constant in {self.unifier.site}")

    def _carry(self, context: CallContext, touched: Sequence[Value], results: Sequence[Value]) -> None:
        """All dimensions of parameters that are neither summed over nor passed on in a view are carried."""
        derived = {result.source for result in results}
        for value in [value for value in touched if value.source not in derived]:
            self._use_means(value)
            for dim, sources in enumerate(value.dims):
                if context.contracted[id(value), dim]:  # of an argument that is given twice, only one contracts
                    context.contracted[id(value), dim] -= 1
                    continue
                for source in sources:
                    self.findings.roles.setdefault((value.source, source), set()).add(CARRY)

    def _use_means(self, value: Value) -> None:
        """A mean that is neither taken from its weight nor averaged further is one over channels."""
        if value.rows is not None and not value.rows.centred:
            for dim in sorted(value.rows.over):
                layout = self.findings.tensors[value.rows.origin][dim]
                self.findings.roles.setdefault((value.rows.origin, dim), set()).add(CARRY)
                if not is_fixed(layout):
                    reason = f"a mean over channels in {self.unifier.site}"
                    self.findings.uniform.append((layout, reason))
                    self.findings.replicas.append((layout, reason))

    def _prediction(
        self,
        tape: Tape,
        context: CallContext,
        touched: Sequence[Value],
        results: Sequence[Value],
        outs: tuple[Any, ...],
        keyed: Sequence[KeyedValue],
    ) -> Prediction:
        """What the student's call must look like."""
        rule = context.rule
        linear = rule.linear if rule else ""
        floating = all(o.is_floating_point() for o in outs if isinstance(o, Tensor))
        return Prediction(
            ins=tuple([layout for value in touched for layout in value.layouts if not is_fixed(layout)]),
            outs=tuple([r.layouts for r in results]),
            expected=tuple(context.expected),
            sized=rule.sized if rule else (),
            flow=_flow(context, "rounded" if linear and context.rounds else linear, touched, keyed, floating=floating),
            unread=tuple(context.unread),
            decided=outs if tape.real and decides(context.op) else None,
        )

    def folded(self, tape: Tape, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outs: tuple[Any, ...]) -> None:
        """What a call makes from nothing, or a view of such, follows the widths that it meets."""
        rule = rule_for(op)
        reals = [real for o in outs if isinstance(o, Tensor) and (real := tape.constant(o)) is not None]
        if rule is None or rule.linear not in ("fresh", "each") or op._schema.is_mutable or len(reals) < len(outs):
            return
        given = [tape.constant(t) for a in (*args, *kwargs.values()) for t in tensors_in(a)]
        known = self.values.is_known_constant
        if rule.linear == "fresh":
            for real in reals:
                self.values.constant(real)
        elif all(known(real) for real in given) and not any(known(real) for real in reals):
            with suppress(Inexpressible, IndexError, ValueError, TypeError):
                shapes = tuple([tuple(real.shape) for real in reals])
                scope = replace(self.scope, declared={})  # no literal of the code is the size of a constant
                context = CallContext(op, rule, shapes, self.values.arguments(tape, op, args, kwargs), scope)
                for real, result in zip(reals, self._by_rule(rule.function, context), strict=True):
                    self.values.set_constant(real, result)

    def handles(self, tape: Tape, what: str, tensors: Iterable[Tensor]) -> None:
        """Code that no rule is for may look at sizes, or over channels: what is known of these stays."""
        for tensor in tensors:
            for layout in self.values.of(tape, tensor).layouts:
                self.unifier.pin(layout, f"{what} (in {self.unifier.site})")

    # -- the code that makes them ----------------------------------------------------------------

    def entered_node(self, node: fx.Node) -> None:
        self.scope = Scope(self.mode, node)
        self.unifier.site = describe(node)

    def left_node(self, tape: Tape, node: fx.Node, result: Any) -> None:
        """Keep the layouts of a node, and what it declared about sizes."""
        self.findings.nodes[self.mode, node.name] = self.values.of_structure(tape, result)
        for literal in literals.of_node(node, self.mode, self.findings.nodes, self.scope.declared):
            self.findings.literals.append(literal)
            if literal.part is None and literal.path[0] != PART:
                self.sizes.state(read(self.nodes[literal.node], literal.path), literal.layout)

    def spelled(self, tape: Tape, spelling: Spelling, run: Callable[[], Any]) -> Any:
        """Run a call in code that no graph shows, and see which of its sizes are attributes."""
        outer = self.scope
        self.scope = replace(outer, spelling=spelling, declared={})
        try:
            result = run()
            if any(attribute_ints_in((spelling.args, spelling.kwargs))):
                known = self.values.if_known(tape, source_of(spelling))
                self._state_sizes(spelling, known, self.values.of_structure(tape, result))
            return result
        finally:
            outer.declared.update(self.scope.declared)
            self.scope = outer

    def _state_sizes(self, spelling: Spelling, known: Value | None, result: Any) -> None:
        for path, layout, *span in literals.sizes_of(spelling, known, result, self.scope.declared):
            if path[0] != PART:
                size = read(spelling, path)
                with suppress(Inexpressible):
                    self.sizes.state_in_code(size, cut(self.unifier, layout, size)[0] if span and size > 0 else layout)

    # -- modules that are called -----------------------------------------------------------------

    def entered_module(self, tape: Tape, module: nn.Module) -> None:
        self.findings.attributes.extend(module_rules.entered(tape, module, self.values))

    def left_module(self, tape: Tape, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        self.findings.attributes.extend(module_rules.left(tape, module, args, result, self.values))


def _flow(
    context: CallContext,
    linear: Linear,
    touched: Sequence[Value],
    outs: Sequence[KeyedValue],
    *,
    floating: bool,
) -> Flow:
    """What has to be known of a call to see where means over channels go."""

    def position(value: Value | None) -> int | None:
        return next((i for i, other in enumerate(touched) if other is value), None)

    norm = None
    if context.norm is not None:
        weight, bias, norm = context.norm
        norm = replace(norm, weight=position(weight), bias=position(bias))
    return Flow(
        linear,
        ins=tuple(zip(context.arguments.keys, touched, strict=True)),
        outs=tuple(outs),
        contracts=tuple([(at, dim) for value, dim in context.summed if (at := position(value)) is not None]),
        norm=norm,
        mutates=context.op._schema.is_mutable,
        numbers=any(isinstance(a, int | float) for a in context.arguments.args[:2]),
        floating=floating,
    )


def _values(arguments: Sequence[Any]) -> Iterator[Value]:
    for argument in arguments:
        if isinstance(argument, Value):
            yield argument
        elif isinstance(argument, list):
            yield from (a for a in argument if isinstance(a, Value))
