"""What to ask for, so that the small model takes the sizes and the blocks of the large one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from ..api import plan
from ..errors import PlanError
from ..infer.findings import CARRY, CONTRACT
from ..infer.width_graph import WidthGraph
from ..layouts.layout import atoms, measure, of
from ..plans.growth_plan import Plan
from ..solver.input_channels import find_input
from ..spec.parse import Widen
from ..spec.patterns import module_of
from ..spec.requests import Deepen, Inputs, Kernel, Outputs, Request
from .names import Correspondence, NewLayer, Shapes
from .sizes import Difference, Sizes

T = TypeVar("T")
Requests = list[Widen | Request]


def wider(graph: WidthGraph, sizes: Sizes, differences: list[Difference]) -> Iterator[Widen | Request]:
    """Requests for widths, inputs, outputs and kernels."""
    leaving = {n for many in graph.outputs.values() for layouts in many for layout in layouts for n in atoms(layout)}
    for name, new in sizes.new.items():
        group = graph.groups_by_name[name]
        made, read = _layers_of(graph, name, CARRY), _layers_of(graph, name, CONTRACT)
        if new <= group.size:
            continue  # one that would shrink is a difference of its tensors
        place = next((f"{tensor}[{dim}]" for tensor, dim in group.members), name)
        if not group.pinned:
            divisible = new % group.size == 0 or not group.uniform
            width = _named_size(graph, sizes, name)
            yield Widen(name, width) if divisible else Widen(name, width, indivisible="average")
        elif name in leaving and made:
            yield Outputs(new, pattern=made[0])
        elif read and _is_entered(graph, inputs := Inputs(read[0], new)):
            yield inputs
        else:
            differences.append(Difference(place, f"{group.size} -> {new}, and it {graph.state(name)}"))
    for path, kernel in sizes.kernels.items():
        yield Kernel(path, kernel)


def _is_entered(graph: WidthGraph, request: Inputs) -> bool:
    """Whether an input of the model enters a layer as it is."""
    try:
        find_input(graph, request)
    except PlanError:
        return False
    return True


def _named_size(graph: WidthGraph, sizes: Sizes, name: str) -> int:
    """The size to ask for by the name of a group: of a layer, that is the size of all that it makes."""
    inside = [tensor for tensor in graph.tensors if tensor == name or tensor.startswith(f"{name}.")]
    layout = graph.produced(inside[0]) if inside else of(name)
    return measure(layout, lambda part: sizes.new.get(part, graph.width(part)))


def _layers_of(graph: WidthGraph, name: str, role: object) -> list[str]:
    """The layers whose weight makes or reads a width."""
    tensors = [graph.tensors[tensor] for tensor, dim in graph.groups_by_name[name].members]
    return [
        module_of(t.name)
        for t in tensors
        if {CARRY, CONTRACT} <= set(t.roles)
        and any(r == role and name in atoms(la) for r, la in zip(t.roles, t.layouts, strict=True))
    ]


def deeper(found: Correspondence, large: Shapes) -> Iterator[Request]:
    """Requests for blocks and layers."""
    for blocks in found.blocks:
        old, new = (_inside(large, path) for path in (found.path(blocks.behind) or "", blocks.paths[0]))
        alike = old.keys() == new.keys()
        others = {name: shape for name, shape in new.items() if alike and shape and shape != old[name]}
        yield Deepen(blocks.behind, blocks=len(blocks.paths), shapes=others or None)
    yield from map(_layer, found.layers)


def _inside(tensors: Mapping[str, T], path: str) -> dict[str, T]:
    """What is stated of the tensors in a module, by their names in it."""
    return {name.removeprefix(f"{path}."): one for name, one in tensors.items() if name.startswith(f"{path}.")}


def _layer(new: NewLayer) -> Deepen:
    return Deepen(
        new.after, kind="identity", kernel=new.kernel or None, norm="batch" if new.normed else None, flat=True
    )


def as_planned(
    graph: WidthGraph, asked: Requests, seed: int, method: str, differences: list[Difference], *, partial: bool
) -> Plan:
    """The plan of all requests; where some cannot be met, that of none, or, if wanted, of as many as can."""

    def tried(requests: Requests) -> Plan | PlanError:
        try:
            return plan(graph, requests, seed=seed, method=method)
        except PlanError as why:
            return why

    best = plan(graph, 1.0, seed=seed, method=method)
    accepted: Requests = []
    pending = [asked] if asked else []
    while pending:
        several = pending.pop()
        outcome = tried([*accepted, *several])
        if isinstance(outcome, Plan):
            accepted, best = [*accepted, *several], outcome
        elif len(several) == 1 or not partial:
            differences.append(_refusal(several, outcome))
        else:
            half = len(several) // 2
            pending += [several[half:], several[:half]]
    return best


def _refusal(requests: Requests, error: PlanError) -> Difference:
    """What a refused request leaves, under the name of the layer that it is for."""
    told = str(error)
    for request in requests:
        if isinstance(request, Deepen | Kernel) and told.startswith(f"{request!r}: "):
            why = told.removeprefix(f"{request!r}: ").removeprefix(f"{request.pattern}: ")
            return Difference(request.pattern, f"no new {_what(request)}: {why}")
    return Difference("", told)


def _what(request: Deepen | Kernel) -> str:
    return "kernel" if isinstance(request, Kernel) else "block behind it" if request.blocks else "layer behind it"
