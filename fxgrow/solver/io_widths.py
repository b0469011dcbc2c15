"""Requests for more inputs and outputs to widths.

In a width graph the sizes of inputs and outputs are pinned. A request lifts the pin of the dimensions that it means
(`freeze.lift`): they are widths like all others then, which what else pins them still pins. The model does not run
again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..base.roles import SHIFTS
from ..errors import PlanError
from ..infer.findings import CARRY, CONTRACT, IS_OUTPUT, Lifted
from ..infer.freeze import lift
from ..infer.groups import Group
from ..infer.width_graph import WidthGraph
from ..layouts.layout import atoms, only_atom
from ..ops import GIVEN, LARGE, PARTIAL, POSITIONS
from ..ops.infinities import INFINITE
from ..plans.entries import IoDimPlan
from ..spec.requests import Inputs, Outputs
from .input_channels import find_input, input_growth, inputs_of
from .io_growth import IGNORED, IoGrowth
from .output_rows import METHODS, made_dim, made_rows, makers_of, output_growths, returned_dims

IS_INPUT = "it is an input of the model"


def free_io_dims(graph: WidthGraph, requests: Iterable[object]) -> tuple[WidthGraph, tuple[IoGrowth, ...]]:
    """The width graph in which the inputs and outputs that are asked for are widths, and these.

    Args:
        graph: Of the model, with pinned inputs and outputs.
        requests: Of every kind; those for inputs and outputs count.

    Raises:
        PlanError: There is no such input or output, it is that large already, or what is new would not come last.
    """
    asked = [request for request in requests if isinstance(request, Inputs | Outputs)]
    if not asked:
        return graph, ()
    if graph.forms and any(isinstance(request, Outputs) for request in asked):
        raise PlanError(
            "Outputs takes one form of inputs: in each form the model may return other tensors; give that one alone"
        )
    inputs = [(request, find_input(graph, request)) for request in asked if isinstance(request, Inputs)]
    lifted = Lifted(frozenset((channels.name, channels.dim) for _, channels in inputs))
    if inputs:
        graph = lift(graph, lifted)
    outputs = [(request, makers_of(graph, request)) for request in asked if isinstance(request, Outputs)]
    if outputs:
        rows = frozenset((maker.name, made_dim(maker)) for _, makers in outputs for maker in makers)
        lifted = Lifted(lifted.inputs, rows)
        graph = lift(graph, lifted)
    io_growths: dict[str, IoGrowth] = {}
    for growth in [
        *(input_growth(graph, lifted, request, channels) for request, channels in inputs),
        *(growth for request, makers in outputs for growth in output_growths(graph, request, makers)),
    ]:
        io_growths[growth.group] = _joined(io_growths.get(growth.group, growth), growth)
    return _pin_others(graph, lifted, io_growths.keys()), tuple(io_growths.values())


def free_grown(graph: WidthGraph, io_dims: Iterable[IoDimPlan]) -> WidthGraph:
    """The width graph in which the inputs and outputs that plans grow are widths.

    Args:
        graph: Of the teacher or of the student, with pinned inputs and outputs.
        io_dims: Those of the plans.
    """
    places = {(dim.kind, dim.at, dim.number, dim.dim) for dim in io_dims}
    names = {label: name for label, (name, _) in inputs_of(graph.traced.arguments).items()}
    lifted = Lifted(frozenset((names[at], dim) for kind, at, _, dim in places if kind == "input" and at in names))
    if not places or graph.findings is None:
        return graph
    graph = lift(graph, lifted)
    growing = [layout for io, layout in returned_dims(graph) if (io.kind, io.at, io.number, io.dim) in places]
    returned = {name for layout in growing for name in atoms(layout)}
    weights = [tensor for tensor in graph.tensors.values() if {CARRY, CONTRACT} <= {*tensor.roles}]
    rows = frozenset((one.name, made_dim(one)) for one in weights if returned & {*atoms(made_rows(one))})
    if rows:
        lifted = Lifted(lifted.inputs, rows)
        graph = lift(graph, lifted)
    entering = [only_atom(graph.inputs[name][dim][-1:]) for name, dim in lifted.inputs]
    return _pin_others(graph, lifted, returned.union(name for name in entering if isinstance(name, str)))


def _pin_others(graph: WidthGraph, lifted: Lifted, growing: Iterable[str]) -> WidthGraph:
    """The graph in which only those widths of inputs and outputs may grow."""
    entering = {name for key, dim in lifted.inputs for name in atoms(graph.inputs[key][dim])}
    returned = {name for _, layout in returned_dims(graph) for name in atoms(layout)}
    return graph.pin(returned.difference(growing), IS_OUTPUT).pin(entering.difference(growing), IS_INPUT)


def _joined(one: IoGrowth, other: IoGrowth) -> IoGrowth:
    """What two requests ask of one group; where it is an input and an output, it is filled as an output is."""
    methods = dict.fromkeys(e.method for e in (other, one) if isinstance(e.request, Outputs)) or {IGNORED: None}
    if one.more != other.more or len(methods) > 1:
        raise PlanError(
            f"{one.request!r} and {other.request!r} meet in one width, {one.group}: ask for as many more, alike"
        )
    return replace(one, method=next(iter(methods)), dims=tuple(dict.fromkeys((*one.dims, *other.dims))))


def check_io_growths(graph: WidthGraph, io_growths: Sequence[IoGrowth]) -> None:
    """Whether such groups can grow.

    Raises:
        PlanError: One must stay, or needs replicas, which what is new is not.
    """
    for growth in io_growths:
        group = graph.groups_by_name[growth.group]
        reasons = _reasons(group)
        needs = group.uniform or [reason for reason in group.replicas if not _is_of_values(reason)]
        if reasons:
            raise PlanError(
                f"{growth.request!r}: {growth.what} must stay: {'; '.join(reasons)}{_advice(growth, reasons)}"
            )
        if needs:
            raise PlanError(
                f"{growth.request!r}: {growth.what} must stay: {needs[0]} takes all of them together, so that new ones "
                "would change what the old ones give"
            )
        unfit = _unfit_rows(growth, group) or _unfit_values(graph, growth, group)
        if unfit:
            raise PlanError(f"{growth.request!r}: {growth.what} must stay: {unfit}")


def _is_of_values(reason: str) -> bool:
    """Whether replicas are needed for the values of new channels, not for their number."""
    return any(text in reason for text in (PARTIAL, LARGE, INFINITE, POSITIONS, GIVEN))


def _unfit_rows(growth: IoGrowth, group: Group) -> str:
    """Why what is new must be zero, or must not be; "" if it is right."""
    zero = growth.method == METHODS["zero"]
    if zero and group.nonzero_rows:
        return f"what is new may make it infinite or NaN: {group.nonzero_rows[0]}; ask for new='mean' or new='random'"
    if group.zero_rows and not zero and growth.method != IGNORED:
        return f"new rows would change the result of {group.zero_rows[0]}: ask for new='zero'"
    return ""


def _unfit_values(graph: WidthGraph, growth: IoGrowth, group: Group) -> str:
    """Why the values of what is new may give infinities, NaN or positions out of range; "" if they do not.

    What is returned as it is may be infinite, but not where it is divided by (rows of zeros), nor where a weight sums
    over it: zero columns times infinity are NaN. What is divided by is zero where it is a shift.
    """
    summed = any(graph.tensors[tensor].roles[dim] == CONTRACT for tensor, dim in group.members)
    zero = growth.method == METHODS["zero"]
    for reason in group.replicas:
        if POSITIONS in reason:
            return f"{reason} would read those of what is new, which may lie out of range"
        if GIVEN in reason and not (zero and any(f" {name}," in reason for name in _silenced(graph, group))):
            continue
        if (zero and any(text in reason for text in (PARTIAL, INFINITE, GIVEN))) or (summed and _is_of_values(reason)):
            advice = "; ask for new='mean' or new='random'" if zero and not summed else ""
            return f"what is new may make it infinite or NaN: {reason}{advice}"
    return ""


def _silenced(graph: WidthGraph, group: Group) -> list[str]:
    """The parameters and buffers of a width whose entries for rows of zeros are zero."""
    names = dict.fromkeys(name for name, _ in group.members)
    return [n for n in names if CONTRACT in graph.tensors[n].roles or graph.tensors[n].kind in SHIFTS]


def _reasons(group: Group) -> tuple[str, ...]:
    """Why a group must stay; empty where it can grow."""
    return group.pinned or ((f"{group.deferred_to} grows instead",) if group.deferred_to else ())


def _advice(growth: IoGrowth, reasons: Sequence[str]) -> str:
    """What the user can do about a group that must stay."""
    if any("fixed size" in reason for reason in reasons):
        return (
            "; where that is a constant that forward makes, a buffer of the module would grow; where it is another "
            "input, ask for both"
        )
    if IS_OUTPUT in reasons and isinstance(growth.request, Inputs):
        return "; where a layer makes that output, ask for Outputs as well"
    return ""
