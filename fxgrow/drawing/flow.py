"""The levels `ops`, `layers` and `blocks`: the FX graph, folded zero, one and two times.

`ops` has a box for each node of the FX graph. In `layers` norms, activations and other operations with one input are
part of the layer that they follow (or that follows them, if their input has other readers). In `blocks` a module is one
box; the depth of these modules is the largest that gives at most BLOCKS boxes. Equal consecutive blocks are one, "×3".
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace

from torch import nn

from ..model.layer_kinds import CONTAINERS
from .folding import Flow, folded, layered, neighbours
from .recorded import flow_of
from .registry import level
from .source import Source
from .view import Drawing, Edge, Level, Node

BLOCKS = 40  # the largest number of boxes of the level `blocks`


@level("ops")
def ops(source: Source) -> Drawing:
    """A box for every node of the graph."""
    return _drawn(source, _framed(source, flow_of(source)), "ops")


@level("layers")
def layers(source: Source) -> Drawing:
    """A box for each layer with the operations that follow it."""
    return _drawn(source, _framed(source, layered(flow_of(source))), "layers")


@level("blocks")
def blocks(source: Source) -> Drawing:
    """A box for each module; equal consecutive ones are merged."""
    flow = layered(flow_of(source))
    drawn = _drawn(source, _framed(source, flow), "layers")
    modules, into = _modules(source, flow, _depth(source, flow))
    drawn = replace(_drawn(source, modules, "blocks"), parts=drawn, into=into)
    rows, into = _repeats(source, modules)
    return (
        replace(_drawn(source, rows, "blocks"), parts=drawn, into=into)
        if len(rows.nodes) < len(modules.nodes)
        else drawn
    )


def _depth(source: Source, flow: Flow) -> int:
    """The largest depth with at most BLOCKS boxes, and with at least half of the layers inside modules."""
    layers = sum(node.kind == "layer" for node in flow.nodes.values())
    best = 1
    for depth in range(2, 2 + max((node.path.count(".") for node in flow.nodes.values()), default=0)):
        flow_at_depth, _ = _modules(source, flow, depth)
        alone = sum(node.kind == "layer" for node in flow_at_depth.nodes.values())
        if 2 * alone > layers or len(_repeats(source, flow_at_depth)[0].nodes) > BLOCKS:
            return best
        best = depth
    return best


def _modules(source: Source, flow: Flow, depth: int) -> tuple[Flow, Mapping[str, str]]:
    """Merge the boxes of each module at a depth of the tree; only levels at which the tree branches count.

    Returns:
        The merged boxes, and the one of each box.
    """
    cut = _cuts([node.path for node in flow.nodes.values() if node.kind == "layer"], depth)
    homes = {key: cut(node.path) if node.kind not in ("input", "output") else "" for key, node in flow.nodes.items()}
    for key, node in flow.nodes.items():
        if node.kind == "layer" and homes[key] == node.path:  # each call of a layer is a separate box
            homes[key] = ""
    first: dict[str, str] = {}
    number: dict[str, int] = {}
    added: dict[str, int] = {}
    for key, home in homes.items():
        if home:
            first.setdefault(home, key)
            number[home] = number.get(home, 0) + (flow.nodes[key].kind == "layer")
            added[home] = added.get(home, 0) + (flow.nodes[key].kind == "layer" and flow.nodes[key].new)
    rename = {
        key: replace(
            flow.nodes[key],
            kind="block",
            path=home,
            what=_block(source, home, number[home], added[home]) or flow.nodes[key].what,
            inside=(),
            size=(0, 0),
        )
        for home, key in first.items()
        if number[home] > 1 or flow.nodes[key].path != home
    }
    into = {key: first.get(home, key) for key, home in homes.items()}
    return folded(flow, into.__getitem__, rename), into


def _block(source: Source, path: str, number: int, added: int) -> str:
    """The class of a module and the number of its layers: "BasicBlock 2→3 layers"."""
    kind = source.widths.traced.classes.get(path) or source.widths.traced.classes.get(path.partition("_deeper")[0])
    name = kind.__name__ if kind is not None and kind not in (*CONTAINERS, nn.Module) else ""  # a student's have none
    count = str(number) if added in (0, number) else f"{number - added}→{number}"
    return " ".join(filter(None, [name, f"{count} layers" if number > 1 else ""]))


def _cuts(paths: Iterable[str], depth: int) -> Callable[[str], str]:
    """A function that cuts a path at a depth of the tree of `paths`; only levels at which the tree branches count."""
    tree: dict[str, set[str]] = {}
    for path in paths:
        steps = path.split(".")
        for i, step in enumerate(steps):
            tree.setdefault(".".join(steps[:i]), set()).add(step)

    def cut(path: str) -> str:
        steps = path.split(".") if path else []
        level = 0
        for i in range(len(steps)):
            if level == depth:
                return ".".join(steps[:i])
            level += len(tree.get(".".join(steps[:i]), ())) > 1
        return path

    return cut


def _repeats(source: Source, flow: Flow) -> tuple[Flow, Mapping[str, str]]:
    """Merge equal consecutive blocks; the merged ones, and the one of each block."""
    keys = list(flow.nodes)
    users, _ = neighbours(flow.edges)
    into: dict[str, str] = {}
    rows: dict[str, list[Node]] = {}
    for one, two in itertools.pairwise(keys):
        a, b = flow.nodes[one], flow.nodes[two]
        if (
            two in users.get(one, ())
            and a.kind in ("block", "layer")
            and _equality_key(source, a) == _equality_key(source, b) != ()
        ):
            root = into[two] = into.get(one, one)
            rows.setdefault(root, [a]).append(b)
    rename = {}
    for root, row in rows.items():
        path = f"{row[0].path} … {row[-1].path.rpartition('.')[2]}"
        rename[root] = replace(row[0], path=path, times=len(row), inside=())
    into = {key: into.get(key, key) for key in keys}
    return folded(flow, into.__getitem__, rename), into


def _equality_key(source: Source, node: Node) -> Hashable:
    """The key by which blocks are equal: class, contents and sizes; () if a block is never merged."""
    kind = source.widths.traced.classes.get(node.path.partition("_deeper")[0])
    if not node.path or kind is None:
        return ()
    whats = tuple(name.split(" ")[:2] and name.rpartition(" ")[0] for name in node.inside)
    return kind, node.path.rpartition(".")[0], whats, node.what, node.size, node.new, node.kind, node.kernel


def _framed(source: Source, flow: Flow) -> Flow:
    """Set the frame of each box: its module at the depth of the level `blocks`."""
    depth = _depth(source, layered(flow_of(source)))
    cut = _cuts([node.path for node in flow.nodes.values() if node.kind == "layer"], depth)
    homes = {key: cut(node.path) if node.path else "" for key, node in flow.nodes.items()}
    paths: dict[str, set[str]] = {}
    for key, home in homes.items():
        paths.setdefault(home, set()).add(flow.nodes[key].path)
    return replace(
        flow, nodes={k: replace(n, home=homes[k] if len(paths[homes[k]]) > 1 else "") for k, n in flow.nodes.items()}
    )


def _drawn(source: Source, flow: Flow, name: Level) -> Drawing:
    edges = tuple(_marked(flow))
    used = {node.group for node in flow.nodes.values()}
    legend = tuple(swatch for swatch in source.legend.values() if swatch.name in used)
    return Drawing(source.title, name, tuple(flow.nodes.values()), edges, legend, source.notes, source.plan is not None)


def _marked(flow: Flow) -> Iterator[Edge]:
    """Mark skip connections: their source has other readers, and their target another, deeper source."""
    users, sources = neighbours(flow.edges)
    order = {key: i for i, key in enumerate(flow.nodes)}
    depth: dict[str, int] = {}
    for key in flow.nodes:
        depth[key] = 1 + max((depth.get(one, 0) for one in sources.get(key, ()) if order[one] < order[key]), default=0)
    deepest = {key: max(depth[one] for one in others) for key, others in sources.items()}
    for edge in flow.edges:
        bypass = len(users.get(edge.source, ())) > 1 and depth[edge.source] < deepest.get(edge.target, 0)
        yield replace(edge, skip=bypass, back=order[edge.target] <= order[edge.source])
