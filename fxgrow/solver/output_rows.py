"""Requests for more outputs: which layers make the outputs that are meant, and which width groups these are.

In: the width graph and a request. Out: the weights whose rows are outputs and, once their pins are lifted, how their
groups grow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..errors import PlanError
from ..infer.findings import CARRY, CONTRACT
from ..infer.width_graph import TensorWidths, WidthGraph
from ..layouts.layout import Layout, atoms, measure, of, show
from ..model.tree import MODES
from ..spec.patterns import match, module_of
from ..spec.requests import Outputs
from .io_growth import IoDim, IoGrowth, check_more

METHODS = {"zero": "zero_rows", "mean": "mean_rows", "random": "random_rows"}  # of `Outputs.new`


def makers_of(graph: WidthGraph, request: Outputs) -> list[TensorWidths]:
    """The weights whose rows are the outputs that are meant, one for each width.

    Raises:
        PlanError: No such weight makes an output, or "*" could mean several outputs.
    """
    weights = {t.name: t for t in graph.tensors.values() if {CARRY, CONTRACT} <= set(t.roles)}
    returned = {name for _, layout in returned_dims(graph) for name in atoms(layout)}
    makers = {name: t for name, t in weights.items() if not returned.isdisjoint(atoms(made_rows(t)))}
    everything = request.pattern == "*"
    meant = list(makers) if everything else [name for name in match(request.pattern, weights) if name in makers]
    layers = ", ".join(dict.fromkeys(module_of(name) or name for name in makers)) or "none"
    if not meant:
        raise PlanError(f"{request!r}: {_why_none(graph, request, weights)}; layers that do: {layers}")
    by_width = {made_rows(makers[name]): makers[name] for name in meant}
    if everything and not _is_only_output(graph, list(by_width)):
        raise PlanError(f"{request!r}: the model has several outputs: give a pattern for one of the layers {layers}")
    return list(by_width.values())


def _why_none(graph: WidthGraph, request: Outputs, weights: Mapping[str, TensorWidths]) -> str:
    """Why no weight that is meant makes an output."""
    everything = request.pattern == "*"
    tried = list(weights)[-1:] if everything else match(request.pattern, weights)
    made = [name for t in tried for name in atoms(made_rows(weights[t]))]
    why = "; ".join(dict.fromkeys(reason for name in made for reason in graph.groups_by_name[name].pinned))
    reasons = f": {module_of(tried[0]) or tried[0]} must stay, because {why}" if why else ""
    what = "no linear layer or convolution makes" if everything else f"{request.pattern!r} does not make"
    return f"{what} an output of the model{reasons}"


def _is_only_output(graph: WidthGraph, rows: Sequence[Layout]) -> bool:
    """Whether there is one width of outputs, which every tensor that the model returns has."""
    inside = set(atoms(rows[0]))
    leaves = [leaf for leaves in graph.outputs.values() for leaf in leaves]
    return len(rows) == 1 and all(any(not inside.isdisjoint(atoms(la)) for la in leaf) for leaf in leaves)


def made_dim(tensor: TensorWidths) -> int:
    """The dimension of a weight that is the width which it makes."""
    carried = [d for d, role in enumerate(tensor.roles) if role == CARRY]
    return next((d for d in carried if any(atoms(tensor.layouts[d]))), carried[0])


def made_rows(tensor: TensorWidths) -> Layout:
    """The layout of that dimension."""
    return tensor.layouts[made_dim(tensor)]


def output_growths(graph: WidthGraph, request: Outputs, makers: Sequence[TensorWidths]) -> Iterator[IoGrowth]:
    """How the groups of outputs grow, one for each weight that makes some.

    Raises:
        PlanError: There are as many already, or what is new would not come last.
    """
    for maker in makers:
        rows = made_rows(graph.tensors[maker.name])
        layer = module_of(maker.name) or maker.name
        places = [(dim, la) for dim, la in returned_dims(graph) if not set(atoms(rows)).isdisjoint(atoms(la))]
        group = _last_of(rows, [la for _, la in places])
        if group is None:
            shown = ", ".join(dict.fromkeys(show(la) for _, la in places))
            raise PlanError(
                f"{request!r}: {layer} makes {show(rows)} and the model returns {shown}; new outputs need a dimension "
                "whose last entries they are"
            )
        size = graph.width(group)
        check_more(request, layer, "outputs", size, request.number)
        yield IoGrowth(
            request,
            f"what {layer} makes",
            group,
            request.number - size,
            METHODS[request.new],
            tuple(dim for dim, la in places if la == of(group)),
        )


def _last_of(rows: Layout, returned: Sequence[Layout]) -> str | None:
    """The width of rows that is a dimension of outputs by itself: of (anchors, classes) the classes."""
    alone = [name for name in dict.fromkeys(atoms(rows)) if len(rows) == 1 and of(name) in returned]
    if not alone or any(alone[-1] in atoms(la) and la != of(alone[-1]) for la in returned):
        return None
    return alone[-1]


def returned_dims(graph: WidthGraph) -> Iterator[tuple[IoDim, Layout]]:
    """Every dimension of every tensor that the model returns."""
    first = next(iter(graph.outputs))
    for mode in MODES:
        for number, layouts in enumerate(graph.outputs.get(mode, graph.outputs[first])):
            for dim, layout in enumerate(layouts):
                yield IoDim("output", mode, number, dim, measure(layout, graph.width)), layout
