"""New layers and clones of blocks in a graph of boxes, each beside the arrow that it replaces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ..ops import Value
from ..plans.changes import Insert, Region, Repeat
from .folding import Flow
from .source import Source
from .view import STAYS, Edge, Node


def with_new(source: Source, flow: Flow) -> Flow:
    """The graph with the plan's new layers and clones; the arrows that they replace are kept for before growth."""
    for change in source.changes():
        if isinstance(change, Insert) and not change.owner:
            for node_ref in change.after_nodes:
                if node_ref.mode == "eval" and node_ref.node in flow.nodes:
                    flow = inserted(flow, change, node_ref.node, _positions(source, node_ref.node, change.channels))
        elif isinstance(change, Repeat):
            for region in change.regions:
                if region.mode == "eval" and region.exit in flow.nodes:
                    flow = cloned(flow, change, region)
    return flow


def inserted(flow: Flow, change: Insert, after: str, positions: int) -> Flow:
    """The graph with a new layer after a box, whose value has so many entries per channel."""
    old = flow.nodes[after]
    kernel = "×".join(map(str, change.kernel))
    number = 2 if change.kind == "residual" else 1  # of layers in the insertion
    weight = change.channels * change.channels // change.groups * math.prod(change.kernel)
    entries = number * (weight + change.channels) + (2 * change.channels if change.norm else 0)
    key = f"{change.path} after {after}"
    words = [change.kind, change.layer, kernel]
    node = Node(
        key=key,
        kind="layer",
        what=" ".join(filter(None, words)),
        path=change.path,
        size=(0, change.channels),
        group=old.group,
        groups=old.groups,
        state=old.state or STAYS,
        reason=str(change),
        new=True,
        parameters=(0, entries),
        flops=(0, 2 * number * weight * positions),
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


def cloned(flow: Flow, change: Repeat, region: Region) -> Flow:
    """The graph with the clones of a block after it."""
    inside = [name for name in region.nodes if name in flow.nodes]
    read = [edge for edge in flow.edges if edge.target in inside and edge.when != "before"]
    nodes: list[Node] = []
    edges: list[Edge] = []
    last = region.exit
    for path in change.paths:
        twins = {name: f"{name} in {path}" for name in inside}
        nodes += [_clone(flow.nodes[name], twin, change.block, path) for name, twin in twins.items()]
        sources = {**twins, region.entry: last}
        for edge in read:
            start = sources.get(edge.source, edge.source)
            edges.append(replace(edge, source=start, target=twins[edge.target], when="after"))
        last = twins[region.exit]
    unary, silent = (
        marked | {f"{name} in {path}" for name in inside if name in marked for path in change.paths}
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
