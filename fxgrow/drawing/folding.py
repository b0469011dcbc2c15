"""Folding: boxes of a graph are merged into larger ones, from operators to layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .view import Edge, Node, WidthChange


@dataclass(frozen=True, slots=True)
class Flow:
    """A graph of boxes.

    Attributes:
        nodes: The boxes by key, in the order of execution.
        edges: The arrows, at most one per pair of boxes.
        unary: The keys of boxes with one input tensor that can be folded into another box.
        silent: The keys of boxes whose result is no tensor.
        like: By the key of a new box, that of a box of the model whose value has as many positions.
    """

    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]
    unary: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    like: Mapping[str, str] = field(default_factory=dict)


def root_in(into: Mapping[str, str], key: str) -> str:
    """The box that a box was folded into, transitively; the box itself if it was not."""
    while key in into:
        key = into[key]
    return key


def neighbours(edges: Iterable[Edge]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """(readers, sources) of each box after growth, without repetitions."""
    users: dict[str, dict[str, None]] = {}
    sources: dict[str, dict[str, None]] = {}
    for edge in edges:
        if edge.when != "before":
            users.setdefault(edge.source, {})[edge.target] = None
            sources.setdefault(edge.target, {})[edge.source] = None
    return {key: [*near] for key, near in users.items()}, {key: [*near] for key, near in sources.items()}


def folded(flow: Flow, root_of: Callable[[str], str], rename: Mapping[str, Node] | None = None) -> Flow:
    """Merge the boxes with the same root. The result has the type and path of the root, or of `rename[root]`."""
    parts: dict[str, list[Node]] = {}
    for key, node in flow.nodes.items():
        parts.setdefault(root_of(key), []).append(node)
    nodes: dict[str, Node] = {}
    for root, inside in parts.items():
        main = (rename or {}).get(root) or flow.nodes[root]
        last = next((node for node in reversed(inside) if any(node.size)), main)
        names = [_inside(node, main) for node in inside if node.key != root]
        nodes[root] = replace(
            main,
            size=main.size if any(main.size) and last.group == main.group else _size(inside, last),
            group=last.group or main.group,
            state=last.state if last.group else main.state,
            reason=last.reason if last.group else main.reason,
            groups=tuple(dict.fromkeys(name for node in inside for name in node.groups)),
            parameters=total(node.parameters for node in inside),
            flops=total(node.flops for node in inside),
            inside=main.inside + tuple(names),
            paths=_paths(inside),
            start=last.start or main.start,
            kernel=next((node.kernel for node in inside if node.kernel), None),
        )
    edges: dict[tuple[str, str], list[Edge]] = {}
    for edge in flow.edges:
        ends = root_of(edge.source), root_of(edge.target)
        if ends[0] != ends[1]:
            edges.setdefault(ends, []).append(replace(edge, source=ends[0], target=ends[1]))
    return Flow(nodes, tuple(map(_merged, edges.values())))


def _size(inside: Sequence[Node], last: Node) -> WidthChange:
    """The size of the result of merged boxes; if the last one is new, the old size is that of the last old one."""
    if last.size[0] or all(node.new for node in inside):
        return last.size
    old = next((node.size[0] for node in reversed(inside) if node.size[0] and node.group == last.group), 0)
    return old, last.size[1]


def _merged(edges: Sequence[Edge]) -> Edge:
    """One arrow for all between the same two boxes; a pair of before and after growth becomes one for both."""
    by_when = {edge.when: edge for edge in reversed(edges)}
    if "both" in by_when or len(by_when) == 1:
        return by_when.get("both", edges[0])
    return replace(edges[0], shapes=(by_when["before"].shapes[0], by_when["after"].shapes[1]), when="both")


def _paths(inside: Sequence[Node]) -> tuple[str, ...]:
    """The paths of the parts of a box; empty if there is only one."""
    paths = tuple(dict.fromkeys(path for node in inside for path in node.paths or (node.path,) if path))
    return paths if len(paths) > 1 else ()


def _inside(node: Node, main: Node) -> str:
    name = node.path.removeprefix(f"{main.path}.") if main.path else node.path
    return f"{node.what} {name}".strip() if node.kind == "layer" else node.what


def layered(flow: Flow) -> Flow:
    """Remove boxes whose result is no tensor, and fold boxes with one input into the layers that they follow."""
    reached = _reached(flow)
    attributes = {key for key, node in flow.nodes.items() if node.kind == "op" and key not in reached}
    gone = flow.silent | attributes
    nodes = {key: node for key, node in flow.nodes.items() if key not in gone}
    edges = tuple(e for e in flow.edges if e.source in nodes and e.target in nodes)
    edges = tuple(_chained(nodes, edges))
    users, sources = neighbours(edges)
    into: dict[str, str] = {}
    tails: dict[str, str] = {}  # per box: the last box that was folded into it
    for key, node in nodes.items():
        before = sources.get(key, [])
        if key in flow.unary and len(before) == 1 and users[before[0]] == [key]:
            root = root_in(into, before[0])
            if nodes[root].kind not in ("input", "output") and nodes[root].new is node.new:
                into[key] = root
                tails[root] = key
    # A norm in front of its layer, whose input has other readers, is folded into the layer.
    for key in [key for key in nodes if key in flow.unary and key not in into]:
        after = users.get(tails.get(key, key), [])
        layer = nodes[after[0]] if len(after) == 1 and after[0] not in into else None
        if layer is not None and layer.kind == "layer" and layer.new is nodes[key].new:
            into[key] = layer.key
    return folded(Flow(nodes, edges, flow.unary), lambda key: root_in(into, key))


def _chained(nodes: Mapping[str, Node], edges: Sequence[Edge]) -> Iterator[Edge]:
    """Replace the arrows from a and b to cat(a, b, c) by one from cat(a, b): a dense network becomes a chain."""
    reads: dict[str, list[Edge]] = {}
    for edge in edges:
        if nodes[edge.target].what == "cat" and edge.when == "both":
            reads.setdefault(edge.target, []).append(edge)
    made = {tuple(edge.source for edge in read): key for key, read in reads.items()}
    shapes = {edge.source: edge.shapes for edge in edges}
    gone: set[int] = set()
    for key, read in reads.items():
        names = [edge.source for edge in read]
        size = next((n for n in range(len(names) - 1, 1, -1) if made.get(tuple(names[:n]), key) != key), 0)
        if size:
            first = made[tuple(names[:size])]
            yield Edge(first, key, shapes.get(first, ("", "")))
            gone.update(id(edge) for edge in read[:size])
    yield from (edge for edge in edges if id(edge) not in gone)


def _reached(flow: Flow) -> set[str]:
    """The boxes with an input; parameters and constants have none."""
    return {edge.target for edge in flow.edges}


def total(changes: Iterable[WidthChange]) -> WidthChange:
    """The sums of the numbers before and of those after growth."""
    pairs = list(changes)
    return sum(old for old, _ in pairs), sum(new for _, new in pairs)
