"""The FX graph that runs as boxes and arrows, with the layers that the plan puts in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import fx

from ..layouts.layout import Layout, is_fixed
from ..model.provenance import describe, module_path, operation
from ..ops import Value
from .additions import with_new
from .folding import Flow, total
from .source import Source
from .view import PINNED, Edge, Node, WidthChange


def graph_of(source: Source) -> Flow:
    """Every node of the graph, with the layers that the plan puts in."""
    traced = source.widths.traced
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    unary: set[str] = set()
    silent: set[str] = set()
    for found in traced.graph("eval").nodes:
        value = value_of(source, found.name)
        layouts = value.layouts if isinstance(value, Value) else ()
        nodes[found.name] = _node(source, found, layouts)
        if value is None and found.op not in ("placeholder", "output"):
            silent.add(found.name)
        tensors = [n for n in found.all_input_nodes if value_of(source, n.name) is not None or n.op == "placeholder"]
        flowing = [n for n in tensors if n.op != "get_attr"]
        if len(flowing) == 1 and _folds(source, found, nodes[found.name], value_of(source, flowing[0].name), value):
            unary.add(found.name)
        for used in found.all_input_nodes:
            edges.append(Edge(used.name, found.name, _shapes(source, used)))
    nodes = _with_flops(source, nodes)
    flow = Flow(nodes, tuple(edges), frozenset(unary), frozenset(silent))
    return flow if source.of_student else with_new(source, flow)


def value_of(source: Source, name: str) -> Value | tuple[object, ...] | None:
    """What is known of a node: of a tensor its layouts, of several of them a tuple."""
    for mode in ("eval", *source.widths.traced.modes):
        found = source.widths.nodes.get((mode, name))
        if found is not None:
            known: Value | tuple[object, ...] | None = found if _has_tensor(found) else None
            return known
    return None


def _has_tensor(found: object) -> bool:
    return any(map(_has_tensor, found)) if isinstance(found, tuple) else isinstance(found, Value)


def _node(source: Source, node: fx.Node, layouts: tuple[Layout, ...]) -> Node:
    path = str(node.target) if node.op in ("call_module", "get_attr") else module_path(node)
    what = source.what(path) if node.op == "call_module" else operation(node)
    mine = source.inside.get(path, ()) if node.op == "call_module" else ()
    read = [str(n.target) for n in node.all_input_nodes if n.op == "get_attr" and n.target in source.widths.tensors]
    dim = shown(source, layouts[1:] or layouts)
    group = source.group_of([dim]) if node.op != "get_attr" else ""
    if not group and node.op == "call_module":
        group = source.group_of(source.widths.produced(t) for t in mine[:1])
    touched = [name for la in layouts for name in [source.group_of([(block,)]) for block in la] if name]
    touched += [
        name for t in mine for name in [source.group_of([la]) for la in source.widths.tensors[t].layouts] if name
    ]
    swatch = source.legend.get(group)
    kind = {"placeholder": "input", "output": "output", "call_module": "layer"}.get(node.op, "op")
    if sum(n.op not in ("get_attr",) and value_of(source, n.name) is not None for n in node.all_input_nodes) > 1:
        kind = "join" if kind == "op" else kind
    new = source.is_new(path) or (source.of_student and _closes(source, node))
    size = source.size(dim) if dim and layouts[1:] and (group or node.op == "call_module") else (0, 0)
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
        parameters=total(source.parameters(t) for t in [*mine, *read] if t in source.parameter_names),
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


def shown(source: Source, layouts: Sequence[Layout]) -> Layout:
    """The dimension that a box shows: the first that can grow, or that has a name, or that there is.

    Of words (N, words, features) it is the features: the number of words is pinned.
    """
    named = [la for la in layouts if source.group_of([la])]
    free = [la for la in named if source.legend[source.group_of([la])].state != PINNED]
    other = [la for la in layouts if not is_fixed(la)]
    return next(iter([*free, *named, *other, *layouts]), ())


def _with_flops(source: Source, nodes: Mapping[str, Node]) -> dict[str, Node]:
    """The boxes with the operations of their calls; calls of one weight, or at one place, share theirs."""
    graph = {node.name: node for node in source.widths.traced.graph("eval").nodes}
    tensors: dict[str, list[str]] = {}
    for name in source.flops:
        module = name.rpartition(" at ")[2]  # a weight, or a place: "convolution at 1"
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
    shares: dict[str, list[WidthChange]] = {}
    for name, keys in claims.items():
        old, new = source.flops[name]
        for i, key in enumerate(keys):
            rest = (old % len(keys), new % len(keys)) if i == 0 else (0, 0)
            shares.setdefault(key, []).append((old // len(keys) + rest[0], new // len(keys) + rest[1]))
    totals = {key: total(found) for key, found in shares.items()}
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
    weights = list(source.inside.get(box.path, ())) if node.op == "call_module" else []
    weights += [str(n.target) for n in node.all_input_nodes if n.op == "get_attr"]
    if any(len(source.widths.tensors[t].layouts) > 1 for t in weights if t in source.widths.tensors):
        return False
    if not isinstance(taken, Value):
        return True
    space = [layouts[2:] for layouts in (taken.layouts, given.layouts)]
    return len(taken.layouts) != len(given.layouts) or space[0] == space[1] or not any(map(len, space))


def _shapes(source: Source, node: fx.Node) -> tuple[str, str]:
    value = value_of(source, node.name)
    if not isinstance(value, Value):
        known = source.widths.traced.arguments.get(str(node.target)) if node.op == "placeholder" else None
        shape = getattr(known, "shape", ())
        text = "×".join(map(str, shape[1:]))
        return text, text
    sizes = [source.size(layout) for layout in (value.layouts[1:] or value.layouts)]
    return "×".join(str(old) for old, _ in sizes), "×".join(str(new) for _, new in sizes)
