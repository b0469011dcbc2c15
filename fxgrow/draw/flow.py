"""The levels `ops`, `layers` and `blocks`: the graph that runs, as it is, and folded twice.

`ops` has a box for each node of the FX graph. In `layers` norms, activations and other steps with one input are part
of the layer that they follow (or lead to, where that has other readers, too). In `blocks` all that stands in one
module is one box: modules so deep in the tree as can be taken in at once. Blocks in a row that are alike are one, "×3".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import fx

from ..changes import Insert, Region, Repeat
from ..layout import Layout, is_fixed
from ..ops import Value
from ..sites import describe, module_path, operation
from .registry import level
from .view import STAYS, Change, Drawing, Edge, Level, Node, Source, When, arrow

BLOCKS = 40  # boxes that the level `blocks` may have


@dataclass(frozen=True, slots=True)
class Flow:
    """A graph while it is folded: boxes by key, in the order in which they run, and arrows.

    Attributes:
        nodes: By key.
        edges: (source, target, shapes, when), without double ones.
        unary: The keys of boxes that one tensor goes through, and that can be a part of another box.
        silent: The keys of boxes that give no tensor.
    """

    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]
    unary: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()


@level("ops")
def ops(source: Source) -> Drawing:
    """Every node of the graph."""
    return _drawn(source, _homed(source, _graph(source)), "ops")


@level("layers")
def layers(source: Source) -> Drawing:
    """Layers with what follows them."""
    return _drawn(source, _homed(source, _layers(_graph(source))), "layers")


@level("blocks")
def blocks(source: Source) -> Drawing:
    """Modules, those that repeat as one."""
    flow = _layers(_graph(source))
    return _drawn(source, _repeats(source, _modules(source, flow, _depth(source, flow))), "blocks")


# -- the graph that runs -----------------------------------------------------------------------------


def _graph(source: Source) -> Flow:
    """Every node of the graph, with the layers that the plan puts in."""
    traced = source.widths.traced
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    unary: set[str] = set()
    silent: set[str] = set()
    for found in traced.graph("eval").nodes:
        value = _value(source, found)
        layouts = value.layouts if isinstance(value, Value) else ()
        nodes[found.name] = _node(source, found, layouts)
        if value is None and found.op not in ("placeholder", "output"):
            silent.add(found.name)
        tensors = [n for n in found.all_input_nodes if _value(source, n) is not None or n.op == "placeholder"]
        flowing = [n for n in tensors if n.op != "get_attr"]
        if len(flowing) == 1 and _folds(source, found, nodes[found.name], _value(source, flowing[0]), value):
            unary.add(found.name)
        for used in found.all_input_nodes:
            edges.append(Edge(used.name, found.name, _shapes(source, used)))
    nodes = _with_flops(source, nodes)
    flow = Flow(nodes, tuple(edges), frozenset(unary), frozenset(silent))
    return flow if source.of_student else _with_new(source, flow)


def _value(source: Source, node: fx.Node) -> Value | tuple[object, ...] | None:
    for mode in ("eval", *source.widths.traced.modes):
        found = source.widths.nodes.get((mode, node.name))
        if found is not None:
            known: Value | tuple[object, ...] | None = found if _has_tensor(found) else None
            return known
    return None


def _has_tensor(found: object) -> bool:
    return any(map(_has_tensor, found)) if isinstance(found, tuple) else isinstance(found, Value)


def _node(source: Source, node: fx.Node, layouts: tuple[Layout, ...]) -> Node:
    path = str(node.target) if node.op in ("call_module", "get_attr") else module_path(node)
    what = source.what(path) if node.op == "call_module" else operation(node)
    mine = [t for t in source.widths.tensors if t.startswith(f"{path}.")] if node.op == "call_module" else []
    read = [str(n.target) for n in node.all_input_nodes if n.op == "get_attr" and n.target in source.widths.tensors]
    group = source.group_of(layouts[1:] or layouts) if node.op != "get_attr" else ""
    if not group and node.op == "call_module":
        group = source.group_of(source.widths.produced(t) for t in mine[:1])
    touched = [name for la in layouts for name in [source.group_of([(block,)]) for block in la] if name]
    touched += [
        name for t in mine for name in [source.group_of([la]) for la in source.widths.tensors[t].layouts] if name
    ]
    dims = [la for la in layouts[1:] if not is_fixed(la)] or list(layouts[1:2])
    swatch = source.legend.get(group)
    kind = {"placeholder": "input", "output": "output", "call_module": "layer"}.get(node.op, "op")
    if sum(n.op not in ("get_attr",) and _value(source, n) is not None for n in node.all_input_nodes) > 1:
        kind = "join" if kind == "op" else kind
    new = source.is_new(path) or (source.of_student and _closes(source, node))
    size = source.size(dims[0]) if dims and (group or node.op == "call_module") else (0, 0)
    return Node(
        key=node.name,
        kind=kind,
        what=what,
        path=path if kind not in ("input", "output") else "",
        size=(0, size[1]) if new else size,
        group=group,
        groups=tuple(dict.fromkeys([*([group] if group else []), *touched])),
        state=swatch.state if swatch else "",
        reason=swatch.reason if swatch else "",
        new=new,
        parameters=_sum(source.parameters(t) for t in [*mine, *read] if t in source.parameter_names),
        start=next(
            (
                f"{t}[{d}]"
                for t in mine
                for d, la in enumerate(source.widths.tensors[t].layouts)
                if group == source.group_of([la])
            ),
            "",
        ),
    )


def _with_flops(source: Source, nodes: Mapping[str, Node]) -> dict[str, Node]:
    """The boxes with the operations of their calls; calls of one weight, or at one place, share theirs."""
    graph = {node.name: node for node in source.widths.traced.graph("eval").nodes}
    tensors: dict[str, list[str]] = {}
    for name in source.flops:
        module = name
        while module:
            tensors.setdefault(module, []).append(name)
            module = module.rpartition(".")[0]
    claims: dict[str, list[str]] = {}
    for key, box in nodes.items():
        found = graph[key]
        keys = tensors.get(box.path, []) if found.op == "call_module" else [describe(found)]
        keys = [*keys, *(str(used.target) for used in found.all_input_nodes if used.op == "get_attr")]
        for name in dict.fromkeys(keys):
            if name in source.flops and found.op not in ("get_attr", "placeholder", "output"):
                claims.setdefault(name, []).append(key)
    shares: dict[str, list[Change]] = {}
    for name, keys in claims.items():
        old, new = source.flops[name]
        for i, key in enumerate(keys):
            rest = (old % len(keys), new % len(keys)) if i == 0 else (0, 0)
            shares.setdefault(key, []).append((old // len(keys) + rest[0], new // len(keys) + rest[1]))
    totals = {key: _sum(found) for key, found in shares.items()}
    return {
        key: replace(box, flops=(0 if box.new else totals[key][0], totals[key][1])) if key in totals else box
        for key, box in nodes.items()
    }


def _closes(source: Source, node: fx.Node) -> bool:
    """Whether a node of a student adds what a new residual layer takes to what that gives."""
    return node.op == "call_function" and any(
        used.op == "call_module" and used.target == f"{path}.last"
        for used in node.all_input_nodes
        for path in source.new_paths
    )


def _folds(source: Source, node: fx.Node, box: Node, taken: object, given: object) -> bool:
    """Whether a node is a step on the way: no weights of two dimensions, and the same space as before."""
    if node.op == "output" or not isinstance(given, Value):
        return False
    weights = [t for t in source.widths.tensors if node.op == "call_module" and t.startswith(f"{box.path}.")]
    weights += [str(n.target) for n in node.all_input_nodes if n.op == "get_attr"]
    if any(len(source.widths.tensors[t].layouts) > 1 for t in weights if t in source.widths.tensors):
        return False
    if not isinstance(taken, Value):
        return True
    space = [layouts[2:] for layouts in (taken.layouts, given.layouts)]
    return len(taken.layouts) != len(given.layouts) or space[0] == space[1] or not any(map(len, space))


def _shapes(source: Source, node: fx.Node) -> tuple[str, str]:
    value = _value(source, node)
    if not isinstance(value, Value):
        known = source.widths.traced.arguments.get(str(node.target)) if node.op == "placeholder" else None
        shape = getattr(known, "shape", ())
        text = "×".join(map(str, shape[1:]))
        return text, text
    sizes = [source.size(layout) for layout in (value.layouts[1:] or value.layouts)]
    return "×".join(str(old) for old, _ in sizes), "×".join(str(new) for _, new in sizes)


def _sum(changes: Iterable[Change]) -> Change:
    found = list(changes)
    return sum(old for old, _ in found), sum(new for _, new in found)


# -- new layers ---------------------------------------------------------------------------------------


def _with_new(source: Source, flow: Flow) -> Flow:
    """The graph with the plan's new layers and clones, each beside the arrow that it takes the place of."""
    for change in source.changes():
        if isinstance(change, Insert):
            for place in change.places:
                if place.mode == "eval" and place.node in flow.nodes:
                    flow = _inserted(source, flow, change, place.node)
        elif isinstance(change, Repeat):
            for region in change.regions:
                if region.mode == "eval" and region.exit in flow.nodes:
                    flow = _cloned(flow, change, region)
    return flow


def _inserted(source: Source, flow: Flow, change: Insert, after: str) -> Flow:
    old = flow.nodes[after]
    kernel = "×".join(map(str, change.kernel))
    number = 2 if change.kind == "residual" else 1  # of layers in it
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
        flops=(0, 2 * number * weight * _positions(flow, after)),
        inside=tuple(
            filter(
                None,
                [f"{change.norm} norm" if change.norm else "", change.activation.name if change.activation else ""],
            )
        ),
    )
    return _after(flow, after, [node], [(key, key)], [])


def _positions(flow: Flow, key: str) -> int:
    """How many entries each channel has that a box gives: of (C, H, W) there are H W."""
    shape = next((edge.shapes[0] for edge in flow.edges if edge.source == key), "")
    return math.prod(int(size) for size in shape.split("×")[1:])


def _cloned(flow: Flow, change: Repeat, region: Region) -> Flow:
    inside = [name for name in region.nodes if name in flow.nodes]
    nodes: list[Node] = []
    edges: list[Edge] = []
    ends: list[tuple[str, str]] = []  # of each clone what it takes from outside, and what it gives
    last = region.exit
    for path in change.paths:

        def renamed(name: str, path: str = path) -> str:
            return f"{name} in {path}"

        for name in inside:
            old = flow.nodes[name]
            moved = path + old.path.removeprefix(change.block) if old.path.startswith(change.block) else path
            nodes.append(
                replace(
                    old,
                    key=renamed(name),
                    path=moved,
                    new=True,
                    size=(0, old.size[1]),
                    parameters=(0, old.parameters[1]),
                    flops=(0, old.flops[1]),
                    start="",
                )
            )
        for edge in flow.edges:
            if edge.target in inside and edge.when != "before":
                start = (
                    renamed(edge.source)
                    if edge.source in inside
                    else last
                    if edge.source == region.entry
                    else edge.source
                )
                edges.append(replace(edge, source=start, target=renamed(edge.target), when="after"))
        last = renamed(region.exit)
    ends.append((renamed(region.entry), last))
    grown = _after(flow, region.exit, nodes, [("", last)], edges)
    unary = flow.unary | {f"{name} in {path}" for name in inside for path in change.paths if name in flow.unary}
    silent = flow.silent | {f"{name} in {path}" for name in inside for path in change.paths if name in flow.silent}
    return replace(grown, unary=frozenset(unary), silent=frozenset(silent))


def _after(flow: Flow, after: str, new: Sequence[Node], ends: Sequence[tuple[str, str]], inner: Sequence[Edge]) -> Flow:
    """New boxes behind one: what read that one reads the last of them, once grown."""
    nodes: dict[str, Node] = {}
    for key, node in flow.nodes.items():
        nodes[key] = node
        if key == after:
            nodes.update({one.key: one for one in new})
    edges: list[Edge] = []
    shapes = next((edge.shapes for edge in flow.edges if edge.source == after), ("", ""))
    for first, last in ends:
        if first:
            edges.append(Edge(after, first, shapes, when="after"))
        for edge in flow.edges:
            if edge.source != after or edge.when == "before":
                continue
            edges.append(replace(edge, source=last, when="after"))
    for edge in flow.edges:
        if edge.source != after or edge.when == "before":
            edges.append(edge)
        elif edge.when == "both":
            edges.append(replace(edge, when="before"))
    return Flow(nodes, (*edges, *inner), flow.unary, flow.silent)


# -- folding ------------------------------------------------------------------------------------------


def _layers(flow: Flow) -> Flow:
    """Without what gives no tensor, and with steps on the way folded into layers."""
    reached = _reached(flow)
    attributes = {key for key, node in flow.nodes.items() if node.kind == "op" and key not in reached}
    gone = flow.silent | attributes
    nodes = {key: node for key, node in flow.nodes.items() if key not in gone}
    edges = tuple(e for e in flow.edges if e.source in nodes and e.target in nodes)
    edges = tuple(_chained(nodes, edges))
    users, sources = _neighbours(edges)
    into: dict[str, str] = {}
    tails: dict[str, str] = {}  # of each box the last one that was folded into it
    for key, node in nodes.items():
        before = sources.get(key, [])
        if key in flow.unary and len(before) == 1 and users[before[0]] == [key]:
            root = _found(into, before[0])
            if nodes[root].kind not in ("input", "output") and nodes[root].new is node.new:
                into[key] = root
                tails[root] = key
    for key in [
        k for k in nodes if k in flow.unary and k not in into
    ]:  # a norm before its layer, where what it reads has other readers
        after = users.get(tails.get(key, key), [])
        layer = nodes[after[0]] if len(after) == 1 and after[0] not in into else None
        if layer is not None and layer.kind == "layer" and layer.new is nodes[key].new:
            into[key] = layer.key
    return _folded(Flow(nodes, edges, flow.unary), lambda key: _found(into, key))


def _chained(nodes: Mapping[str, Node], edges: Sequence[Edge]) -> Iterator[Edge]:
    """The arrows, with one from cat(a, b) to cat(a, b, c) in place of those from a and b: dense networks are chains."""
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
    """The boxes that something flows into: not those that give a parameter or a constant."""
    return {edge.target for edge in flow.edges}


def _found(into: Mapping[str, str], key: str) -> str:
    while key in into:
        key = into[key]
    return key


def _neighbours(edges: Iterable[Edge]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Readers and sources of each box, once each, after growth."""
    users: dict[str, list[str]] = {}
    sources: dict[str, list[str]] = {}
    for edge in edges:
        if edge.when != "before":
            if edge.target not in users.setdefault(edge.source, []):
                users[edge.source].append(edge.target)
            if edge.source not in sources.setdefault(edge.target, []):
                sources[edge.target].append(edge.source)
    return users, sources


def _folded(flow: Flow, root_of: Callable[[str], str], rename: Mapping[str, Node] | None = None) -> Flow:
    """Boxes put together: each takes the place of its root, whose type and path it has; or those of `rename`."""
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
            size=main.size if any(main.size) and last.group == main.group else last.size,
            group=last.group or main.group,
            state=last.state if last.group else main.state,
            reason=last.reason if last.group else main.reason,
            groups=tuple(dict.fromkeys(name for node in inside for name in node.groups)),
            parameters=_sum(node.parameters for node in inside),
            flops=_sum(node.flops for node in inside),
            inside=main.inside + tuple(names),
            start=last.start or main.start,
        )
    edges: dict[tuple[str, str, When], Edge] = {}
    for edge in flow.edges:
        ends = root_of(edge.source), root_of(edge.target)
        if ends[0] != ends[1]:
            edges.setdefault((*ends, edge.when), replace(edge, source=ends[0], target=ends[1]))
    return Flow(nodes, tuple(edges.values()))


def _inside(node: Node, main: Node) -> str:
    name = node.path.removeprefix(f"{main.path}.") if main.path else node.path
    return f"{node.what} {name}".strip() if node.kind == "layer" else node.what


# -- blocks -------------------------------------------------------------------------------------------


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
    first: dict[str, str] = {}
    number: dict[str, int] = {}
    for key, home in homes.items():
        if home:
            first.setdefault(home, key)
            number[home] = number.get(home, 0) + (flow.nodes[key].kind == "layer")
    rename = {
        key: replace(
            flow.nodes[key], kind="block", path=home, what=_block(source, home, number[home]), inside=(), size=(0, 0)
        )
        for home, key in first.items()
        if number[home] > 1 or flow.nodes[key].path != home
    }
    return _folded(flow, lambda key: first.get(homes[key], key), rename)


def _block(source: Source, path: str, number: int) -> str:
    kind = source.widths.traced.classes.get(path) or source.widths.traced.classes.get(path.partition("_deeper")[0])
    name = kind.__name__ if kind is not None and kind.__name__ not in ("Sequential", "ModuleList") else ""
    return " ".join(filter(None, [name, f"{number} layers" if number > 1 else ""]))


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
    users, _ = _neighbours(flow.edges)
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
    return _folded(flow, lambda key: into.get(key, key), rename)


def _like(source: Source, node: Node) -> Hashable:
    """What blocks have in common that are drawn as one: their class, what is in them, what they give."""
    kind = source.widths.traced.classes.get(node.path.partition("_deeper")[0])
    if not node.path or kind is None:
        return ()
    whats = tuple(name.split(" ")[:2] and name.rpartition(" ")[0] for name in node.inside)
    return kind, node.path.rpartition(".")[0], whats, node.what, node.size, node.new, node.kind, arrow(node.size)


# -- what is left -------------------------------------------------------------------------------------


def _homed(source: Source, flow: Flow) -> Flow:
    """Each box in that of its module, at the depth of the blocks."""
    depth = _depth(source, _layers(_graph(source)))
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
    users, sources = _neighbours(flow.edges)
    order = {key: i for i, key in enumerate(flow.nodes)}
    depth: dict[str, int] = {}
    for key in flow.nodes:
        depth[key] = 1 + max((depth.get(one, 0) for one in sources.get(key, ()) if order[one] < order[key]), default=0)
    for edge in flow.edges:
        others = sources.get(edge.target, [])
        deepest = max((depth[one] for one in others), default=0)
        bypass = len(users.get(edge.source, ())) > 1 and depth[edge.source] < deepest
        yield replace(edge, skip=bypass, back=order[edge.target] <= order[edge.source])
