"""Requests for more input channels: which dimension of which input they mean, and which width group that is.

In: the width graph and a request. Out: the input's dimension and, once its pin is lifted, how its group grows.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import PlanError
from ..infer.findings import CONTRACT, Lifted
from ..infer.freeze import lift
from ..infer.width_graph import TensorWidths, WidthGraph
from ..layouts.layout import Layout, atoms, measure, only_atom, show
from ..model.call_args import labelled
from ..recording.run import named_inputs
from ..spec.patterns import match
from ..spec.requests import Inputs
from .io_growth import IGNORED, IoDim, IoGrowth, check_more


@dataclass(frozen=True, slots=True)
class InputChannels:
    """The channels of an input.

    Attributes:
        name: The input's name in a run.
        label: Its path in the arguments of `forward`.
        dim: Which dimension they are.
        size: How many there are.
    """

    name: str
    label: str
    dim: int
    size: int


def find_input(graph: WidthGraph, request: Inputs) -> InputChannels:
    """The dimension of the input that some layer sums over: its channels.

    Raises:
        PlanError: There is no such input, or no layer sums over a dimension of it.
    """
    candidates = inputs_of(graph.traced.arguments)
    chosen = {label: c for label, c in candidates.items() if request.pattern in (label, _argument(label))}
    if len(chosen) > 1 and request.pattern not in chosen:
        raise PlanError(f"{request!r}: the argument holds several tensors: say which of {', '.join(chosen)}")
    readers = list(graph.tensors.values()) if chosen else _readers(graph, request, list(candidates))
    why: dict[str, None] = {}
    for label, (name, tensor) in (chosen or candidates).items():
        for axis in _by_likelihood(tensor.ndim):
            probe = lift(graph, Lifted(frozenset(_alike(candidates, axis))))
            dim = axis % tensor.ndim
            if _is_summed(probe, probe.inputs[name][dim], readers, in_part=bool(chosen)):
                return InputChannels(name, label, dim, tensor.shape[dim])
            channels = atoms(probe.inputs[name][dim])
            why.update(dict.fromkeys(reason for n in channels for reason in probe.groups_by_name[n].pinned))
    if chosen:
        reasons = f": {'; '.join(list(why)[:3])}" if why else ""
        raise PlanError(f"{request!r}: no layer sums over the channels of {request.pattern}{reasons}")
    raise PlanError(
        f"{request!r}: no input of the model enters {request.pattern} by itself; "
        f"give the argument: {', '.join(candidates)}"
    )


def _is_summed(probe: WidthGraph, channels: Layout, readers: Sequence[TensorWidths], *, in_part: bool) -> bool:
    """Whether one of these weights sums over just these channels, or at least over a part of them."""
    summed = [layout for reader in readers for layout in _summed(probe.tensors[reader.name])]
    return channels in summed or (in_part and not {*atoms(channels)}.isdisjoint(n for la in summed for n in atoms(la)))


def _alike(candidates: Mapping[str, tuple[str, Tensor]], axis: int) -> Iterator[tuple[str, int]]:
    """That dimension of every input: they may be added."""
    for name, tensor in candidates.values():
        if -tensor.ndim <= axis < tensor.ndim:
            yield name, axis % tensor.ndim


def inputs_of(arguments: Mapping[str, Any]) -> dict[str, tuple[str, Tensor]]:
    """The tensors among the arguments by their paths, with their names in a run."""
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


def input_growth(graph: WidthGraph, lifted: Lifted, request: Inputs, where: InputChannels) -> IoGrowth:
    """How the group of an input's channels grows.

    Raises:
        PlanError: It is that large already, or what is new would not come last.
    """
    check_more(request, where.label, "channels", where.size, request.channels)
    layout = graph.inputs[where.name][where.dim]
    last = only_atom(layout[-1:])
    if not isinstance(last, str):
        raise PlanError(
            f"{request!r}: the channels of {where.label} are {show(layout)}, "
            "so that new ones would not come after the old"
        )
    labels = {name: label for label, (name, _) in inputs_of(graph.traced.arguments).items()}
    places = tuple(
        IoDim("input", labels[name], 0, dim, measure(graph.inputs[name][dim], graph.width))
        for name, dim in sorted(lifted.inputs)
        if last in atoms(graph.inputs[name][dim])
    )
    return IoGrowth(request, f"the channels of {where.label}", last, request.channels - where.size, IGNORED, places)
