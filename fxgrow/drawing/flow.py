"""The levels `ops`, `layers` and `blocks`: the graph that runs, as it is, and folded twice.

`ops` has a box for each node of the FX graph. In `layers` norms, activations and other steps with one input are part
of the layer that they follow (or lead to, where that has other readers, too). In `blocks` all that stands in one
module is one box: modules so deep in the tree as can be taken in at once. Blocks in a row that are alike are one, "×3".
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import replace

from torch import nn

from ..model.layer_kinds import CONTAINERS
from .folding import Flow, folded, layered, neighbours
from .graph import graph_of
from .registry import level
from .source import Source
from .view import Drawing, Edge, Level, Node, arrow

BLOCKS = 40  # boxes that the level `blocks` may have


@level("ops")
def ops(source: Source) -> Drawing:
    """Every node of the graph."""
    return _drawn(source, _homed(source, graph_of(source)), "ops")


@level("layers")
def layers(source: Source) -> Drawing:
    """Layers with what follows them."""
    return _drawn(source, _homed(source, layered(graph_of(source))), "layers")


@level("blocks")
def blocks(source: Source) -> Drawing:
    """Modules, those that repeat as one."""
    flow = layered(graph_of(source))
    return _drawn(source, _repeats(source, _modules(source, flow, _depth(source, flow))), "blocks")


def _depth(source: Source, flow: Flow) -> int:
    """How deep the tree of modules can be shown with so few boxes that one takes them in, most layers inside some."""
    layers = sum(node.kind == "layer" for node in flow.nodes.values())
    best = 1
    for depth in range(2, 2 + max((node.path.count(".") for node in flow.nodes.values()), default=0)):
        found = _modules(source, flow, depth)
        alone = sum(node.kind == "layer" for node in found.nodes.values())
        if 2 * alone > layers or len(_repeats(source, found).nodes) > BLOCKS:
            return best
        best = depth
    return best


def _modules(source: Source, flow: Flow, depth: int) -> Flow:
    """All that stands in one module as one box, with modules at a depth of the tree that counts its branchings."""
    cut = _cuts([node.path for node in flow.nodes.values() if node.kind == "layer"], depth)
    homes = {key: cut(node.path) if node.kind not in ("input", "output") else "" for key, node in flow.nodes.items()}
    for key, node in flow.nodes.items():
        if node.kind == "layer" and homes[key] == node.path:  # each call of a layer is a box of its own
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
    return folded(flow, lambda key: first.get(homes[key], key), rename)


def _block(source: Source, path: str, number: int, added: int) -> str:
    """The class of a module and the number of its layers, before and after growth where some are new."""
    kind = source.widths.traced.classes.get(path) or source.widths.traced.classes.get(path.partition("_deeper")[0])
    name = kind.__name__ if kind is not None and kind not in (*CONTAINERS, nn.Module) else ""  # a student's have none
    count = str(number) if added in (0, number) else f"{number - added}→{number}"
    return " ".join(filter(None, [name, f"{count} layers" if number > 1 else ""]))


def _cuts(paths: Iterable[str], depth: int) -> Callable[[str], str]:
    """Of a path the part down to a depth that counts where the tree of these paths branches."""
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


def _repeats(source: Source, flow: Flow) -> Flow:
    """Blocks in a row that are alike as one."""
    keys = list(flow.nodes)
    users, _ = neighbours(flow.edges)
    into: dict[str, str] = {}
    rows: dict[str, list[Node]] = {}
    for one, two in itertools.pairwise(keys):
        a, b = flow.nodes[one], flow.nodes[two]
        if two in users.get(one, ()) and a.kind in ("block", "layer") and _like(source, a) == _like(source, b) != ():
            root = into[two] = into.get(one, one)
            rows.setdefault(root, [a]).append(b)
    rename = {}
    for root, row in rows.items():
        path = f"{row[0].path} … {row[-1].path.rpartition('.')[2]}"
        rename[root] = replace(row[0], path=path, times=len(row), inside=())
    return folded(flow, lambda key: into.get(key, key), rename)


def _like(source: Source, node: Node) -> Hashable:
    """What blocks have in common that are drawn as one: their class, what is in them, what they give."""
    kind = source.widths.traced.classes.get(node.path.partition("_deeper")[0])
    if not node.path or kind is None:
        return ()
    whats = tuple(name.split(" ")[:2] and name.rpartition(" ")[0] for name in node.inside)
    return kind, node.path.rpartition(".")[0], whats, node.what, node.size, node.new, node.kind, arrow(node.size)


def _homed(source: Source, flow: Flow) -> Flow:
    """Each box in that of its module, at the depth of the blocks."""
    depth = _depth(source, layered(graph_of(source)))
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
    """The arrows, those marked that pass others by: they leave where something else goes on, and come in beside it."""
    users, sources = neighbours(flow.edges)
    order = {key: i for i, key in enumerate(flow.nodes)}
    depth: dict[str, int] = {}
    for key in flow.nodes:
        depth[key] = 1 + max((depth.get(one, 0) for one in sources.get(key, ()) if order[one] < order[key]), default=0)
    for edge in flow.edges:
        others = sources.get(edge.target, [])
        deepest = max((depth[one] for one in others), default=0)
        bypass = len(users.get(edge.source, ())) > 1 and depth[edge.source] < deepest
        yield replace(edge, skip=bypass, back=order[edge.target] <= order[edge.source])
