"""Numeric comparison of teacher and student: outputs in both modes, and every node through the mapping g."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..base.magnitude import is_inexact
from ..base.progress import advance, step
from ..base.scalars import as_number
from ..base.structures import has_values, leaf_tensors
from ..base.torch_private import pytree
from ..base.wording import a_type
from ..capture.ladder import trace_model
from ..capture.traced import Traced
from ..costs.flops import total_flops
from ..costs.torchs import new_counter
from ..errors import GrowError, TraceError, in_words
from ..infer.freeze import freeze
from ..infer.renamed import in_names_of
from ..infer.width_graph import WidthGraph
from ..layouts.layout import Layout, atoms, only_atom
from ..model.call_args import bind
from ..model.copies import clone_shared, named_parameters, named_tensors
from ..model.example_inputs import ExampleInputs, ModelInputs, arguments_of, brief, inputs_hint
from ..model.grown import GrownModule
from ..model.opaque import OPAQUE_MODEL
from ..model.provenance import describe
from ..model.tree import MODES, Mode, graph_for
from ..plans.chain_entries import ChainEntries
from ..plans.examples import example_of
from ..plans.growth_plan import Plan
from ..rewrite.lineage import are_swapped, plan_between
from ..rewrite.student_inputs import old_outputs, padded, padded_inputs
from ..solver.io_widths import free_io_dims
from ..spec.parse import parse
from .report import TOLERANCE, NodeError, Report
from .results import check_kinds, plain_error, relative_error, tells_something
from .run import run_graph, run_module

_NOTHING = "no finite number"


def compare(
    teacher: nn.Module, student: nn.Module, example_inputs: ExampleInputs, *, tolerance: float | None = None
) -> Report:
    """Compare two models on inputs, in eval and in train mode, with dropout off. Neither is modified.

    If the student has more input channels by its plan, it gets the teacher's inputs with random values in the new
    channels. If it has more output channels, the old ones are compared.

    Args:
        teacher: The model before growth.
        student: The model after growth.
        example_inputs: Real inputs of the teacher: a tensor, a tuple of arguments or a dict of keyword arguments.
        tolerance: The largest relative error that counts as equal; None: the one for the dtype (report.TOLERANCE).

    Raises:
        GrowError: One is no model or does not run on the inputs, or these have no values, or their outputs differ in
            structure or shape, or the tolerance is no number.
    """
    _check_models(teacher, student)
    largest = _allowed(tolerance, teacher)
    args, kwargs = arguments_of(example_inputs)
    given = ModelInputs(args, kwargs)
    if not has_values((args, kwargs)):
        raise GrowError(
            "the example inputs are on the meta device and have no values to compare; give ones with values"
        )
    plan = plan_between(teacher, student)
    entries = ChainEntries(plan) if plan is not None else None
    steps = entries.steps if entries is not None else ()
    larger = padded_inputs(steps, teacher, given)
    with step("comparing outputs", 2 * len(MODES)):
        found = {mode: _output_error(teacher, student, given, larger, steps, mode) for mode in MODES}
    errors: dict[str, float] = {mode: error for mode, (error, _) in found.items()}
    empty = [mode for mode, (_, is_compared) in found.items() if not is_compared]
    if len(empty) == len(MODES):
        raise GrowError(f"the teacher returns {_NOTHING} on {given}, so that nothing is compared; give other inputs")
    beyond = [mode for mode in MODES if errors[mode] > largest] if tolerance is None else []
    rounding = _rounding(teacher, given, beyond)
    nodes: tuple[NodeError, ...] = ()
    if (
        plan is not None
        and plan.next is None
        and isinstance(student, GrownModule)
        and OPAQUE_MODEL not in vars(student)
    ):
        nodes = tuple(_node_errors(teacher, student, plan, given))
    with step("counting FLOPs"):
        flops = (_flops(teacher, given), _flops(student, larger))
    return Report(
        errors=errors,
        tolerance=largest,
        rounding=rounding,
        nodes=nodes,
        parameters=(_count(teacher), _count(student)),
        flops=flops,
        skipped=tuple(entries.skipped.items()) if entries is not None else (),
        notes=(
            *(entries.notes if entries is not None else ()),
            *(f"the teacher returns {_NOTHING} in {mode} mode, where nothing is compared" for mode in empty),
        ),
    )


def _check_models(teacher: nn.Module, student: nn.Module) -> None:
    for who, model in (("teacher", teacher), ("student", student)):
        if not isinstance(model, nn.Module):
            raise GrowError(f"the {who} is {a_type(model)}; expected an nn.Module")
        if any(tensor.is_meta for tensor in named_tensors(model).values()):
            raise GrowError(f"the {who} is on the meta device and has no values to compare; give a model with weights")
    if are_swapped(teacher, student):
        raise GrowError(
            "teacher and student are swapped: by its plan, the first model was grown from one such as the second; call "
            "verify(teacher, student, example_inputs)"
        )


def _output_error(
    teacher: nn.Module, student: nn.Module, given: ModelInputs, larger: ModelInputs, steps: Sequence[Plan], mode: Mode
) -> tuple[float, bool]:
    """The largest error of what a mode returns, and whether there is a number in it that tells anything."""
    expected = _result("teacher", teacher, given, mode)
    actual = _result("student", student, larger, mode)
    check_kinds(actual, expected)
    theirs = leaf_tensors(expected)
    ours = old_outputs(steps, mode, leaf_tensors(actual), len(theirs))
    if len(ours) != len(theirs):
        raise GrowError(f"the student returns {len(ours)} tensors where the teacher returns {len(theirs)}")
    others = any(one.clone_outputs or any(io.kind == "output" for io in one.io_dims) for one in steps)
    plain = 0.0 if others else plain_error(actual, expected)  # which new outputs may change: how many labels there are
    error = max([plain, *(relative_error(a, b) for a, b in zip(ours, theirs, strict=True))])
    return error, tells_something(expected, theirs)


def _result(who: str, model: nn.Module, inputs: ModelInputs, mode: Mode) -> Any:
    try:
        result = run_module(model, inputs, mode)
        advance()
        return result
    except GrowError:
        raise
    except Exception as error:
        hint = inputs_hint((inputs.args, dict(inputs.kwargs)))
        raise GrowError(f"the {who} does not run on {inputs} in {mode} mode: {in_words(error)}{hint}") from error


def _rounding(teacher: nn.Module, inputs: ModelInputs, modes: Sequence[Mode]) -> dict[str, float]:
    """Per mode the error of the teacher against itself in float64: the rounding error of its dtype."""
    if not modes or _tolerance(teacher) <= TOLERANCE[torch.float64]:
        return {}
    precise = clone_shared(teacher, {id(t): _precise(t) for t in named_tensors(teacher).values()})
    args, kwargs = pytree.tree_map_only(Tensor, _precise, (inputs.args, dict(inputs.kwargs)))
    errors: dict[str, float] = {}
    with step("comparing with float64", len(modes)):
        for mode in modes:
            theirs = leaf_tensors(run_module(precise, ModelInputs(args, kwargs), mode))
            ours = leaf_tensors(run_module(teacher, inputs, mode))
            errors[mode] = max((relative_error(a, b) for a, b in zip(ours, theirs, strict=True)), default=0.0)
            advance()
    return errors


def _precise(tensor: Tensor) -> Tensor:
    if not is_inexact(tensor):
        return tensor.detach().clone()
    data = tensor.detach().to(torch.complex128 if tensor.is_complex() else torch.float64)
    return nn.Parameter(data, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data


def _traced_again(teacher: nn.Module, plan: Plan, inputs: ModelInputs) -> Traced:
    """The teacher, traced as for its plan; on the given inputs if tracing needs values, which a plan does not hold."""
    example = example_of(plan, named_tensors(teacher).values())
    with suppress(TraceError):
        if example is not None:
            return trace_model(teacher, example, leaf_modules=plan.leaf_modules)
    return trace_model(teacher, inputs, leaf_modules=plan.leaf_modules)


def _node_errors(teacher: nn.Module, student: GrownModule, plan: Plan, inputs: ModelInputs) -> Iterator[NodeError]:
    traced = _traced_again(teacher, plan, inputs)
    widths, _ = free_io_dims(freeze(traced, other_sizes=False), parse(plan.spec))
    plan = in_names_of(widths, plan)
    if plan.code != traced.fingerprint() or any(
        w.name not in widths.groups_by_name or widths.width(w.name) != w.old for w in plan.groups
    ):
        return  # the student was grown from another model, such as an earlier student
    root = traced.tree(teacher)
    arguments = bind(teacher, inputs)
    larger = padded(plan, arguments)
    numbers = [2 * len(traced.graph(mode).nodes) + len(graph_for(student.graphs, mode).nodes) for mode in MODES]
    with step("comparing nodes", sum(numbers)):  # each is run, and compared
        for mode in MODES:
            graph = traced.graph(mode)
            theirs = run_graph(root, graph, arguments, mode)
            ours = run_graph(student, graph_for(student.graphs, mode), larger, mode)
            computed = _computed(graph)
            for node in graph.nodes:
                if node in computed:
                    yield from _node_error(plan, widths, node, mode, theirs.get(node.name), ours.get(node.name))
                advance()


def _computed(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that follow from inputs: parameters, and functions of them alone, are meant to be other ones."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if any(given.op == "placeholder" or given in found for given in node.all_input_nodes):
            found.add(node)
    return found


def _node_error(
    plan: Plan, widths: WidthGraph, node: fx.Node, mode: Mode, theirs: Any, mine: Any
) -> Iterator[NodeError]:
    """The error of what a node gives in the student, if it is a tensor that can be compared with the teacher's."""
    layouts = widths.value(mode, node.name)
    if isinstance(theirs, Tensor) and isinstance(mine, Tensor) and layouts is not None:
        expected = _gathered(plan, widths, layouts.layouts, theirs)
        mine = _replicas(plan, widths, layouts.layouts, mine)
        if expected.shape == mine.shape and is_inexact(expected):
            yield NodeError(node.name, describe(node), mode, tuple(mine.shape), relative_error(mine, expected))


def _gathered(plan: Plan, widths: WidthGraph, layouts: tuple[Any, ...], tensor: Tensor) -> Tensor:
    """The teacher's activation gathered by g, in the order of the student's channels."""
    for dim, layout in enumerate(layouts):
        if plan.grows(layout):
            index, _ = plan.index(layout, widths.width, without=plan.fresh)
            index = index[: len(index) - _mean_channels(plan, layout)]
            tensor = tensor.index_select(dim, index.to(tensor.device))
    return tensor


def _replicas(plan: Plan, widths: WidthGraph, layouts: tuple[Any, ...], tensor: Tensor) -> Tensor:
    """The student's activation without channels that carry means or are not replicas."""
    for dim, layout in enumerate(layouts):
        number = _mean_channels(plan, layout)
        if plan.fresh & {*atoms(layout)}:
            kept = plan.kept(layout, widths.width, without=plan.fresh)
            tensor = tensor.index_select(dim, kept.to(tensor.device))
        if number:
            tensor = tensor.narrow(dim, 0, tensor.shape[dim] - number)
    return tensor


def _mean_channels(plan: Plan, layout: Layout) -> int:
    """The number of channels of a dimension that carry means."""
    name = only_atom(layout)
    return plan.width(name).mean_channels if isinstance(name, str) and plan.grows(layout) else 0


def _allowed(tolerance: object, teacher: nn.Module) -> float:
    """The largest error that counts as equal.

    Raises:
        GrowError: The tolerance is no number from 0 on.
    """
    if tolerance is None:
        return _tolerance(teacher)
    number = as_number(tolerance)
    if number is None or not number >= 0:
        raise GrowError(f"tolerance is a number of at least 0, not {brief(tolerance)}")
    return float(number)


def _tolerance(model: nn.Module) -> float:
    dtypes = {p.dtype for p in _parameters(model)} or {torch.get_default_dtype()}
    return max(TOLERANCE.get(dtype, 1e-5) for dtype in dtypes)


def _parameters(model: nn.Module) -> list[nn.Parameter]:
    return list(named_parameters(model).values())


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in _parameters(model))


def _flops(model: nn.Module, inputs: ModelInputs) -> int:
    with suppress(TraceError):
        return total_flops(model, inputs)
    try:  # its control flow depends on values
        with new_counter() as counter:
            run_module(model, inputs, "eval")
    except Exception:  # noqa: BLE001 - the counter does not support every model; 0: not known
        return 0
    return int(counter.get_total_flops())
