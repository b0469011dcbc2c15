"""A width that many layers read and write is drawn as a spine: its box again for every few layers, in their order.

The residual stream of a transformer is one width. As one box it would be a star with an arrow to and from each layer,
thousands of pixels wide. As a spine it is a column: a layer reads the box above it and writes to the one below.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from .view import Drawing, Edge, Node

ROW = 2  # boxes without arrows beside each other
SPOKES, SEGMENT = 6, 4  # a box with more arrows than the first to other boxes is a spine; so many of them per segment


def spine_of(drawing: Drawing) -> Drawing:
    """The drawing with spines in place of stars."""
    nodes, edges = spined(drawing.nodes, drawing.edges)
    return replace(drawing, nodes=nodes, edges=edges)


def spined(nodes: Sequence[Node], edges: Sequence[Edge]) -> tuple[tuple[Node, ...], tuple[Edge, ...]]:
    """The boxes and arrows with spines in place of stars."""
    places = {node.key: i for i, node in enumerate(nodes)}
    spokes: dict[str, dict[int, None]] = {}
    for edge in edges:
        if edge.source != edge.target and not edge.back and edge.when != "before":
            spokes.setdefault(edge.source, {}).setdefault(places[edge.target])
    starts = {key: sorted(found)[::SEGMENT] for key, found in spokes.items() if len(found) > SPOKES}
    parts: dict[str, list[Node]] = {
        node.key: [node, *(_again(node, k) for k in range(1, len(starts[node.key]) + 1))]
        for node in nodes
        if node.key in starts
    }
    arrows = [_moved(edge, starts, places) for edge in edges]
    used = {key for edge in arrows for key in (edge.source, edge.target)}
    for key, segments in parts.items():  # the last one is there only if a layer writes to it
        parts[key] = segments if segments[-1].key in used else segments[:-1]
    for key, segments in parts.items():
        for one, two in itertools.pairwise(segments):
            arrows.append(Edge(one.key, two.key, tip=f"the same width: {key}", main=True, spine=True))
    return tuple(part for node in nodes for part in parts.get(node.key, [node])), tuple(arrows)


def loose(nodes: Sequence[Node], edges: Sequence[Edge]) -> tuple[frozenset[str], tuple[str, ...]]:
    """(boxes that only hang on others as their factors, boxes without any arrow)."""
    arrows = {
        key for edge in edges if not edge.skip for key in (edge.source, edge.target) if edge.source != edge.target
    }
    factors = {edge.source for edge in edges if edge.skip and edge.back}
    ends = {key for edge in edges for key in (edge.source, edge.target) if edge.source != edge.target}
    return frozenset(factors - arrows), tuple(node.key for node in nodes if node.key not in ends)


def _again(node: Node, number: int) -> Node:
    return replace(node, key=f"{node.key} / {number}", what="", segment=number, parameters=(0, 0), flops=(0, 0))


def _moved(edge: Edge, starts: Mapping[str, Sequence[int]], places: Mapping[str, int]) -> Edge:
    """An arrow from the segment before its reader, or to the segment after its source."""
    source, target, back = edge.source, edge.target, edge.back
    if source == target or edge.skip:  # a factor of it
        return edge
    if source in starts and not edge.back:
        source = _segment(source, _passed(starts[source], places[target]) - 1)
    if target in starts and edge.back:
        number = _passed(starts[target], places[edge.source])
        target, back = _segment(target, number), number == 0
    return replace(edge, source=source, target=target, back=back and edge.back)


def _passed(starts: Sequence[int], place: int) -> int:
    return sum(start <= place for start in starts)


def _segment(key: str, number: int) -> str:
    return f"{key} / {number}" if number > 0 else key
