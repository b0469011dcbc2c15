"""Requests for more inputs and outputs to widths: which dimension of which input or output, and which group that is.

In a width graph the sizes of inputs and outputs are fixed. Here they are inferred once more, with one dimension of
an input as a width like all others, or without the pin of an output; whatever else pins it still does.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from ..errors import PlanError
from ..infer.findings import CARRY, CONTRACT, IS_OUTPUT, Lifted
from ..infer.freeze import lift
from ..infer.width_graph import TensorWidths, WidthGraph
from ..layouts.layout import Layout, atoms, measure, only_atom, show
from ..model.call_args import labelled
from ..model.tree import MODES
from ..ops import PARTIAL
from ..recording.run import named_inputs
from ..spec.match import match, module_of
from ..spec.requests import Inputs, Outputs, Request

IS_INPUT = "it is an input of the model"
METHODS = {"zero": "zero_rows", "mean": "mean_rows", "random": "random_rows"}  # of `Outputs.new`
IGNORING = "zero_out"  # the method of `Inputs`


@dataclass(frozen=True, slots=True)
class IoDim:
    """A dimension of an input or an output.

    Attributes:
        kind: "input" or "output".
        at: The input's place in the arguments of `forward`, or the mode of the output.
        number: Which of the tensors that the model returns.
        dim: The dimension.
        size: Its size in the teacher.
    """

    kind: Literal["input", "output"]
    at: str
    number: int
    dim: int
    size: int


@dataclass(frozen=True, slots=True)
class IoGrowth:
    """A width group that grows because an input or an output does.

    Attributes:
        request: What was asked for.
        what: The input or output, in words.
        group: Its name.
        more: By how much it grows.
        method: How what is new is filled.
        dims: Where the model's callers see it.
    """

    request: Inputs | Outputs
    what: str
    group: str
    more: int
    method: str
    dims: tuple[IoDim, ...]


def free_io_dims(graph: WidthGraph, requests: Iterable[object]) -> tuple[WidthGraph, tuple[IoGrowth, ...]]:
    """The width graph in which the inputs and outputs that are asked for are widths, and these.

    Args:
        graph: Of the model, with fixed inputs and outputs.
        requests: Of every kind; those for inputs and outputs count.

    Raises:
        PlanError: There is no such input or output, it is that large already, or what is new would not come last.
    """
    asked = [request for request in requests if isinstance(request, Inputs | Outputs)]
    if not asked:
        return graph, ()
    inputs = [(request, _find_input(graph, request)) for request in asked if isinstance(request, Inputs)]
    lifted = Lifted(frozenset((where.name, where.dim) for _, where in inputs))
    if inputs:
        graph = lift(graph, lifted)
    makers = [(request, _makers(graph, request)) for request in asked if isinstance(request, Outputs)]
    if makers:
        lifted = Lifted(lifted.inputs, frozenset((t.name, _made(t)) for _, found in makers for t in found))
        graph = lift(graph, lifted)
    io_growths: dict[str, IoGrowth] = {}
    for growth in [
        *(_of_input(graph, lifted, request, where) for request, where in inputs),
        *(growth for request, found in makers for growth in _of_output(graph, request, found)),
    ]:
        io_growths[growth.group] = _joined(io_growths.get(growth.group, growth), growth)
    entering = {name for key, dim in lifted.inputs for name in atoms(graph.inputs[key][dim])}
    returned = {name for _, layout in _returned(graph) for name in atoms(layout)}
    graph = graph.pin(returned - io_growths.keys(), IS_OUTPUT).pin(entering - io_growths.keys(), IS_INPUT)
    return graph, tuple(io_growths.values())


def _joined(one: IoGrowth, other: IoGrowth) -> IoGrowth:
    """What two requests ask of one group; where it is an input and an output, it is filled as an output is."""
    methods = dict.fromkeys(e.method for e in (other, one) if isinstance(e.request, Outputs)) or {IGNORING: None}
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
        reasons = group.pinned or ((f"{group.deferred_to} grows instead",) if group.deferred_to else ())
        needs = group.uniform or [reason for reason in group.replicas if PARTIAL not in reason]
        if reasons:
            advice = (
                "; where that is a constant that forward makes, a buffer of the module would grow; where it is another "
                "input, ask for both"
                if any("fixed size" in reason for reason in reasons)
                else "; where a layer makes that output, ask for Outputs as well"
                if IS_OUTPUT in reasons and isinstance(growth.request, Inputs)
                else ""
            )
            raise PlanError(f"{growth.request!r}: {growth.what} must stay: {'; '.join(reasons)}{advice}")
        if needs:
            raise PlanError(
                f"{growth.request!r}: {growth.what} must stay: {needs[0]} takes all of them together, so that new ones "
                "would change what the old ones give"
            )


# -- inputs ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Input:
    """A dimension of an input: its name in a run, its place in the arguments of `forward`."""

    name: str
    label: str
    dim: int
    size: int


def _find_input(graph: WidthGraph, request: Inputs) -> _Input:
    """The dimension of the input that some layer sums over: its channels."""
    candidates = _candidates(graph.traced.arguments)
    chosen = {label: c for label, c in candidates.items() if request.pattern in (label, _argument(label))}
    if len(chosen) > 1 and request.pattern not in chosen:
        raise PlanError(f"{request!r}: the argument holds several tensors: say which of {', '.join(chosen)}")
    readers = list(graph.tensors.values()) if chosen else _readers(graph, request, list(candidates))
    why: dict[str, None] = {}
    for label, (name, tensor) in (chosen or candidates).items():
        for place in _by_likelihood(tensor.ndim):
            probe = lift(graph, Lifted(frozenset(_alike(candidates, place))))
            dim = place % tensor.ndim
            channels = list(atoms(probe.inputs[name][dim]))
            summed = [la for t in readers for la in _summed(probe.tensors[t.name])]
            if probe.inputs[name][dim] in summed or (chosen and {*channels} & {n for la in summed for n in atoms(la)}):
                return _Input(name, label, dim, tensor.shape[dim])
            why.update(dict.fromkeys(reason for n in channels for reason in probe.groups_by_name[n].pinned))
    if chosen:
        reasons = f": {'; '.join(list(why)[:3])}" if why else ""
        raise PlanError(f"{request!r}: no layer sums over the channels of {request.pattern}{reasons}")
    raise PlanError(
        f"{request!r}: no input of the model enters {request.pattern} by itself; "
        f"give the argument: {', '.join(candidates)}"
    )


def _alike(candidates: Mapping[str, tuple[str, Tensor]], place: int) -> Iterator[tuple[str, int]]:
    """That dimension of every input: they may be added."""
    for name, tensor in candidates.values():
        if -tensor.ndim <= place < tensor.ndim:
            yield name, place % tensor.ndim


def _candidates(arguments: Mapping[str, Any]) -> dict[str, tuple[str, Tensor]]:
    """The tensors among the arguments by their places, with their names in a run."""
    names = {id(tensor): name for name, tensor in named_inputs(arguments).items()}
    return {label: (names[id(tensor)], tensor) for label, tensor in labelled(arguments).items()}


def _argument(label: str) -> str:
    return label.partition("[")[0]


def _readers(graph: WidthGraph, request: Inputs, labels: Sequence[str]) -> list[TensorWidths]:
    readers = {name: t for name, t in graph.tensors.items() if CONTRACT in t.roles}
    try:
        return [readers[name] for name in match(request.pattern, readers)]
    except PlanError as error:
        close = difflib.get_close_matches(request.pattern, labels, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise PlanError(f"{request!r}: {hint}forward takes {', '.join(labels)}, and {error}") from None


def _by_likelihood(ndim: int) -> list[int]:
    """Dimensions, those first that usually hold channels: (N, C, ...), (N, ..., C), the rest."""
    return [d for d in (1, -1, *range(2, ndim - 1), 0) if -ndim <= d < ndim]


def _summed(tensor: TensorWidths) -> list[Layout]:
    return [layout for layout, role in zip(tensor.layouts, tensor.roles, strict=True) if role == CONTRACT]


def _of_input(graph: WidthGraph, lifted: Lifted, request: Inputs, where: _Input) -> IoGrowth:
    _check_more(request, where.label, "channels", where.size, request.channels)
    layout = graph.inputs[where.name][where.dim]
    last = only_atom(layout[-1:])
    if not isinstance(last, str):
        raise PlanError(
            f"{request!r}: the channels of {where.label} are {show(layout)}, "
            "so that new ones would not come after the old"
        )
    labels = {name: label for label, (name, _) in _candidates(graph.traced.arguments).items()}
    places = tuple(
        IoDim("input", labels[name], 0, dim, measure(graph.inputs[name][dim], graph.width))
        for name, dim in sorted(lifted.inputs)
        if last in atoms(graph.inputs[name][dim])
    )
    return IoGrowth(request, f"the channels of {where.label}", last, request.channels - where.size, IGNORING, places)


# -- outputs -----------------------------------------------------------------------------------------


def _makers(graph: WidthGraph, request: Outputs) -> list[TensorWidths]:
    """The weights whose rows are the outputs that are meant, one for each width."""
    leaves = {tuple(tuple(atoms(la)) for la in layouts) for found in graph.outputs.values() for layouts in found}
    returned = {name for leaf in leaves for names in leaf for name in names}
    weights = {t.name: t for t in graph.tensors.values() if {CARRY, CONTRACT} <= set(t.roles)}
    makers = {name: t for name, t in weights.items() if returned & set(atoms(t.layouts[_made(t)]))}
    everything = request.pattern == "*"
    meant = list(makers) if everything else [name for name in match(request.pattern, weights) if name in makers]
    layers = ", ".join(dict.fromkeys(module_of(name) or name for name in makers)) or "none"
    if not meant:
        tried = list(weights)[-1:] if everything else match(request.pattern, weights)
        made = [name for t in tried for name in atoms(weights[t].layouts[_made(weights[t])])]
        why = "; ".join(dict.fromkeys(reason for name in made for reason in graph.groups_by_name[name].pinned))
        reasons = f": {module_of(tried[0]) or tried[0]} must stay, because {why}" if why else ""
        what = "no linear layer or convolution makes" if everything else f"{request.pattern!r} does not make"
        raise PlanError(f"{request!r}: {what} an output of the model{reasons}; layers that do: {layers}")
    different = {makers[name].layouts[_made(makers[name])]: makers[name] for name in meant}
    inside = set(atoms(next(iter(different))))
    if everything and (len(different) > 1 or any(not inside & {n for names in leaf for n in names} for leaf in leaves)):
        raise PlanError(f"{request!r}: the model has several outputs: give a pattern for one of the layers {layers}")
    return list(different.values())


def _made(tensor: TensorWidths) -> int:
    """The dimension of a weight that is the width which it makes."""
    carried = [d for d, role in enumerate(tensor.roles) if role == CARRY]
    return next((d for d in carried if any(atoms(tensor.layouts[d]))), carried[0])


def _of_output(graph: WidthGraph, request: Outputs, makers: Sequence[TensorWidths]) -> Iterator[IoGrowth]:
    for maker in makers:
        rows = graph.tensors[maker.name].layouts[_made(maker)]
        made = list(dict.fromkeys(atoms(rows)))
        layer = module_of(maker.name) or maker.name
        places = [(place, la) for place, la in _returned(graph) if set(made) & set(atoms(la))]
        whole = [n for n in made if len(rows) == 1 and any(la == ((n,),) for _, la in places)]
        if not whole or any(whole[-1] in atoms(la) and la != ((whole[-1],),) for _, la in places):
            shown = ", ".join(dict.fromkeys(show(la) for _, la in places))
            raise PlanError(
                f"{request!r}: {layer} makes {show(rows)} and the model returns {shown}; new outputs need a dimension "
                "whose last entries they are"
            )
        group = whole[-1]  # of (anchors, classes) the classes
        size = graph.width(group)
        _check_more(request, layer, "outputs", size, request.number)
        yield IoGrowth(
            request,
            f"what {layer} makes",
            group,
            request.number - size,
            METHODS[request.new],
            tuple(place for place, la in places if la == ((group,),)),
        )


def _returned(graph: WidthGraph) -> Iterator[tuple[IoDim, Layout]]:
    """Every dimension of every tensor that the model returns."""
    first = next(iter(graph.outputs))
    for mode in MODES:
        for number, layouts in enumerate(graph.outputs.get(mode, graph.outputs[first])):
            for dim, layout in enumerate(layouts):
                yield IoDim("output", mode, number, dim, measure(layout, graph.width)), layout


def _check_more(request: Request, what: str, unit: str, old: int, new: int) -> None:
    if new == old:
        raise PlanError(f"{request!r}: {what} has {old} {unit} already; ask for more, or leave the request out")
    if new < old:
        raise PlanError(f"{request!r}: {what} has {old} {unit} already, more than {new}; fxgrow only grows")
