"""New layers and clones of blocks in a graph of boxes, each beside the arrow that it replaces."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..ops import Value
from ..plans.chain_entries import ChainChange
from ..plans.changes import Insert, Region, Repeat
from .folding import Flow
from .places import boxes_before, in_order_made, regions
from .source import Source
from .view import STAYS, Edge, Node


def with_new(source: Source, flow: Flow, value_of: Callable[[str], Value | None]) -> Flow:
    """The graph with the plan's new layers and clones; the arrows that they replace are kept for before growth.

    Args:
        source: What is drawn.
        flow: The graph of the model.
        value_of: The result of a box of the model.
    """
    for named in in_order_made(source.changes):
        change = named.change
        if isinstance(change, Insert):
            for after in boxes_before(flow, named, change):
                like = flow.like.get(after, after)
                value = value_of(like)
                numbers = math.prod(source.size(layout)[1] for layout in value.layouts) if value is not None else 0
                channels = flow.nodes[like].size[1] or change.channels
                flow = _inserted(source, flow, change, named, after, numbers // channels)
        elif isinstance(change, Repeat):
            for region in regions(flow, named, change):
                flow = _cloned(source, flow, named, region)
    return flow


def _inserted(source: Source, flow: Flow, change: Insert, named: ChainChange, after: str, positions: int) -> Flow:
    """The graph with a new layer after a box, whose value has so many entries per channel."""
    old = flow.nodes[after]
    kernel = "×".join(map(str, change.kernel))
    number = 2 if change.kind == "residual" else 1  # of layers in the insertion
    weight = change.channels * change.channels // change.groups * math.prod(change.kernel)
    entries = number * (weight + change.channels) + (2 * change.channels if change.norm else 0)
    matrices, channels = number * weight, change.channels
    if (chain := source.of_chain) is not None:  # which may widen it
        entries += sum(chain.added(path)[0] for path in named.in_student)
        matrices += sum(chain.added(path)[1] for path in named.in_student)
        made = [size for path in named.in_student if (size := chain.made_by(path)) is not None]
        channels = made[-1] if made else channels
    key = f"{named.path} after {after}"
    words = [change.kind, change.layer, kernel]
    node = Node(
        key=key,
        kind="layer",
        what=" ".join(filter(None, words)),
        path=named.path,
        size=(0, channels),
        group=old.group,
        groups=old.groups,
        state=old.state or STAYS,
        reason=named.text,
        new=True,
        parameters=(0, entries),
        flops=(0, 2 * matrices * positions),
        inside=tuple(
            filter(
                None,
                [f"{change.norm} norm" if change.norm else "", change.activation.name if change.activation else ""],
            )
        ),
    )
    shapes = next((edge.shapes for edge in flow.edges if edge.source == after), ("", ""))
    flow = replace(flow, like={**flow.like, key: flow.like.get(after, after)})
    return _after(flow, after, [node], key, [Edge(after, key, shapes, when="after")])


def _cloned(source: Source, flow: Flow, named: ChainChange, region: Region) -> Flow:
    """The graph with the clones of a block after it."""
    inside = [name for name in region.nodes if name in flow.nodes]
    read = [edge for edge in flow.edges if edge.target in inside and edge.when != "before"]
    nodes: list[Node] = []
    edges: list[Edge] = []
    last = region.exit
    for path in named.new_paths:
        twins = {name: f"{name} in {path}" for name in inside}
        clones = {name: _clone(flow.nodes[name], twin, named.behind, path) for name, twin in twins.items()}
        nodes += [_as_planned(source, flow.nodes[name], clone) for name, clone in clones.items()]
        sources = {**twins, region.entry: last}
        for edge in read:
            start = sources.get(edge.source, edge.source)
            edges.append(replace(edge, source=start, target=twins[edge.target], when="after"))
        last = twins[region.exit]
    unary, silent = (
        marked | {f"{name} in {path}" for name in inside if name in marked for path in named.new_paths}
        for marked in (flow.unary, flow.silent)
    )
    twin_of = {f"{name} in {path}": flow.like.get(name, name) for path in named.new_paths for name in inside}
    like = {**flow.like, **twin_of}
    return replace(_after(flow, region.exit, nodes, last, edges), unary=unary, silent=silent, like=like)


def _clone(old: Node, key: str, block: str, path: str) -> Node:
    """The box in a clone that corresponds to a box of the block."""
    return replace(
        old,
        key=key,
        path=f"{path}{old.path.removeprefix(block)}" if f"{old.path}.".startswith(f"{block}.") else path,
        new=True,
        size=(0, old.size[1]),
        parameters=(0, old.parameters[1]),
        flops=(0, old.flops[1]),
        start="",
    )


def _as_planned(source: Source, old: Node, clone: Node) -> Node:
    """The box in a clone with what later plans make of it, where they change the clone and not the block."""
    if (chain := source.of_chain) is None:
        return clone
    theirs, ours = source.in_student(old.path), source.in_student(clone.path)
    before, now = source.below(theirs), source.below(ours)
    made = chain.made_by(ours) if clone.kind == "layer" else None
    parameters = _scaled(clone.parameters[1], before[0][1], now[0][1])
    work = 1 if before[1][1] and now[1][1] else 0  # the FLOPs, or the parameters where none are known
    flops = _scaled(clone.flops[1], before[work][1], now[work][1])
    size = (0, made) if made is not None and clone.size[1] else clone.size
    return replace(clone, parameters=(0, parameters), flops=(0, flops), size=size)


def _scaled(number: int, before: int, now: int) -> int:
    return number * now // before if before and now else number


def _after(flow: Flow, after: str, new: Sequence[Node], last: str, inner: Sequence[Edge]) -> Flow:
    """Insert boxes after one; after growth the readers of that one read the last of them.

    Args:
        flow: The graph so far.
        after: The key of the box that they follow.
        new: The new boxes, in order.
        last: The key of the new box that gives the result.
        inner: The arrows into the new boxes.
    """
    nodes: dict[str, Node] = {}
    for key, node in flow.nodes.items():
        nodes[key] = node
        if key == after:
            nodes.update({box.key: box for box in new})
    edges: list[Edge] = []
    for edge in flow.edges:
        if edge.source != after or edge.when == "before":
            edges.append(edge)
            continue
        edges.append(replace(edge, source=last, when="after"))
        if edge.when == "both":
            edges.append(replace(edge, when="before"))
    return replace(flow, nodes=nodes, edges=(*edges, *inner))
