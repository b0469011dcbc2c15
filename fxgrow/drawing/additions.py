"""New layers and clones of blocks in a graph of boxes, each beside the arrow that it replaces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ..ops import Value
from ..plans.chain_entries import ChainChange
from ..plans.changes import Insert, Region, Repeat
from .folding import Flow
from .source import Source
from .view import STAYS, Edge, Node


def with_new(source: Source, flow: Flow) -> Flow:
    """The graph with the plan's new layers and clones; the arrows that they replace are kept for before growth."""
    for named in source.changes:
        change = named.change
        if isinstance(change, Insert) and not change.owner:
            for node_ref in change.after_nodes:
                if node_ref.mode == "eval" and node_ref.node in flow.nodes:
                    positions = _positions(source, node_ref.node, change.channels)
                    flow = inserted(source, flow, change, named, node_ref.node, positions)
        elif isinstance(change, Repeat):
            for region in change.regions:
                if region.mode == "eval" and region.exit in flow.nodes:
                    flow = cloned(source, flow, named, region)
    return flow


def inserted(source: Source, flow: Flow, change: Insert, named: ChainChange, after: str, positions: int) -> Flow:
    """The graph with a new layer after a box, whose value has so many entries per channel."""
    old = flow.nodes[after]
    kernel = "×".join(map(str, change.kernel))
    number = 2 if change.kind == "residual" else 1  # of layers in the insertion
    weight = change.channels * change.channels // change.groups * math.prod(change.kernel)
    entries = number * (weight + change.channels) + (2 * change.channels if change.norm else 0)
    flops, channels = 2 * number * weight * positions, change.channels
    if (chain := source.of_chain) is not None:  # which may widen it
        now = sum(source.below(path)[0][1] for path in named.in_student) or entries
        entries, flops = now, flops * now // entries
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
        flops=(0, flops),
        inside=tuple(
            filter(
                None,
                [f"{change.norm} norm" if change.norm else "", change.activation.name if change.activation else ""],
            )
        ),
    )
    shapes = next((edge.shapes for edge in flow.edges if edge.source == after), ("", ""))
    return _after(flow, after, [node], key, [Edge(after, key, shapes, when="after")])


def _positions(source: Source, key: str, channels: int) -> int:
    """The number of entries per channel in a node's value, over all examples: N*H*W for (N, C, H, W)."""
    value = source.widths.value("eval", key)
    layouts = value.layouts if isinstance(value, Value) else ()
    return math.prod(source.size(layout)[1] for layout in layouts) // channels


def cloned(source: Source, flow: Flow, named: ChainChange, region: Region) -> Flow:
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
    return replace(_after(flow, region.exit, nodes, last, edges), unary=unary, silent=silent)


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
    before, now = source.below(theirs)[0][1], source.below(ours)[0][1]
    made = chain.made_by(ours) if clone.kind == "layer" else None
    parameters, flops = (new * now // before if before and now else new for _, new in (clone.parameters, clone.flops))
    size = (0, made) if made is not None and clone.size[1] else clone.size
    return replace(clone, parameters=(0, parameters), flops=(0, flops), size=size)


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
    return Flow(nodes, (*edges, *inner), flow.unary, flow.silent)
