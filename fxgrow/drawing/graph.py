"""The FX graph of eval mode as boxes and arrows, with the layers that the plan inserts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from torch import fx

from ..layouts.layout import Layout, is_fixed
from ..model.provenance import describe, module_path, operation
from ..ops import Value
from .additions import with_new
from .folding import Flow, total
from .source import Source
from .view import PINNED, Edge, Node, WidthChange


def graph_of(source: Source) -> Flow:
    """A box for every node of the graph, with the layers that the plan inserts."""
    traced = source.widths.traced
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    unary: set[str] = set()
    silent: set[str] = set()
    counted: set[str] = set()
    for node in traced.graph("eval").nodes:
        value = value_of(source, node.name)
        layouts = value.layouts if isinstance(value, Value) else ()
        nodes[node.name] = _node(source, node, layouts, counted)
        if value is None and node.op not in ("placeholder", "output"):
            silent.add(node.name)
        tensors = [n for n in node.all_input_nodes if value_of(source, n.name) is not None or n.op == "placeholder"]
        flowing = [n for n in tensors if n.op != "get_attr"]
        if len(flowing) == 1 and _folds(source, node, nodes[node.name], value_of(source, flowing[0].name), value):
            unary.add(node.name)
        for used in node.all_input_nodes:
            edges.append(Edge(used.name, node.name, _shapes(source, used)))
    nodes = _with_flops(source, nodes)
    flow = Flow(nodes, tuple(edges), frozenset(unary), frozenset(silent))
    return flow if source.of_student else with_new(source, flow, partial(_in_eval, source))


def _in_eval(source: Source, name: str) -> Value | None:
    """The one tensor that a node gives."""
    value = source.widths.value("eval", name)
    return value if isinstance(value, Value) else None


def value_of(source: Source, name: str) -> Value | tuple[object, ...] | None:
    """The layouts of a node's value; a tuple of these if it has several tensors; None if it has none."""
    for mode in ("eval", *source.widths.traced.modes):
        value = source.widths.nodes.get((mode, name))
        if value is not None:
            return value if _has_tensor(value) else None
    return None


def _has_tensor(value: object) -> bool:
    return any(map(_has_tensor, value)) if isinstance(value, tuple) else isinstance(value, Value)


def _node(source: Source, node: fx.Node, layouts: tuple[Layout, ...], counted: set[str]) -> Node:
    """The box of a node of the graph; a parameter that several nodes read is `counted` at the first."""
    path = str(node.target) if node.op in ("call_module", "get_attr") else module_path(node)
    own = source.inside.get(path, ()) if node.op == "call_module" else ()
    read = [str(n.target) for n in node.all_input_nodes if n.op == "get_attr" and n.target in source.widths.tensors]
    dim = shown(source, layouts[1:] or layouts)
    group = _group(source, node, dim, own)
    swatch = source.legend.get(group)
    kind = _kind(source, node)
    counts = [tensor for tensor in [*own, *read] if tensor in source.parameter_names and tensor not in counted]
    counted.update(counts)
    new = source.is_new(path) or (source.of_student and _closes(source, node))
    size = source.size(dim) if dim and layouts[1:] and (group or node.op == "call_module") else (0, 0)
    return Node(
        key=node.name,
        kind=kind,
        what=source.what(path) if node.op == "call_module" else operation(node),
        path=path if kind not in ("input", "output") else "",
        size=(0, size[1]) if new else size,
        group=group,
        groups=tuple(dict.fromkeys(filter(None, [group, *_groups(source, layouts, own)]))),
        state=swatch.state if swatch else "",
        reason=swatch.reason if swatch else "",
        new=new,
        parameters=total(map(source.parameters, counts)),
        start=_start(source, own, group),
        kernel=source.larger_kernel(path) if node.op == "call_module" else None,
    )


def _kind(source: Source, node: fx.Node) -> str:
    """The kind of a node's box; an operation on several tensors is a "join"."""
    kind = {"placeholder": "input", "output": "output", "call_module": "layer"}.get(node.op, "op")
    tensors = [n for n in node.all_input_nodes if n.op != "get_attr" and value_of(source, n.name) is not None]
    return "join" if kind == "op" and len(tensors) > 1 else kind


def _group(source: Source, node: fx.Node, dim: Layout, own: Sequence[str]) -> str:
    """The width group of a node's result, or else the one that its first parameter produces; "" for none."""
    group = source.group_of([dim]) if node.op != "get_attr" else ""
    if not group and node.op == "call_module":
        group = source.group_of(source.widths.produced(tensor) for tensor in own[:1])
    return group


def _groups(source: Source, layouts: tuple[Layout, ...], own: Sequence[str]) -> Iterator[str]:
    """The width groups of a node's result, block by block, and of its parameters; "" where there is none."""
    for layout in layouts:
        for block in layout:
            yield source.group_of([(block,)])
    for tensor in own:
        for layout in source.widths.tensors[tensor].layouts:
            yield source.group_of([layout])


def _start(source: Source, own: Sequence[str], group: str) -> str:
    """The first dimension of a node's parameters with this width group: "conv.weight[0]"; "" for none."""
    for tensor in own:
        for dim, layout in enumerate(source.widths.tensors[tensor].layouts):
            if group == source.group_of([layout]):
                return f"{tensor}[{dim}]"
    return ""


def shown(source: Source, layouts: Sequence[Layout]) -> Layout:
    """The dimension whose size a box shows: the first that can grow, else with a group, else not fixed, else the first.

    Of (N, words, features) it is the features, because the number of words is pinned.
    """
    named = [la for la in layouts if source.group_of([la])]
    free = [la for la in named if source.legend[source.group_of([la])].state != PINNED]
    other = [la for la in layouts if not is_fixed(la)]
    return next(iter([*free, *named, *other, *layouts]), ())


def _with_flops(source: Source, nodes: Mapping[str, Node]) -> dict[str, Node]:
    """The boxes with the FLOPs of their calls; the FLOPs of a weight or location are divided among its nodes."""
    graph = {node.name: node for node in source.widths.traced.graph("eval").nodes}
    tensors: dict[str, list[str]] = {}
    for name in source.flops:
        module = name.rpartition(" at ")[2]  # a weight, or a location: "convolution at 1"
        while module:
            tensors.setdefault(module, []).append(name)
            module = module.rpartition(".")[0]
    claims: dict[str, list[str]] = {}
    for key, box in nodes.items():
        node = graph[key]
        keys = tensors.get(box.path, []) if node.op == "call_module" else [describe(node)]
        keys = [*keys, *(str(used.target) for used in node.all_input_nodes if used.op == "get_attr")]
        for name in dict.fromkeys(keys):
            if name in source.flops and node.op not in ("get_attr", "placeholder", "output"):
                claims.setdefault(name, []).append(key)
    shares: dict[str, list[WidthChange]] = {}
    for name, keys in claims.items():
        old, new = source.flops[name]
        for i, key in enumerate(keys):
            rest = (old % len(keys), new % len(keys)) if i == 0 else (0, 0)
            shares.setdefault(key, []).append((old // len(keys) + rest[0], new // len(keys) + rest[1]))
    totals = {key: total(flops) for key, flops in shares.items()}
    return {
        key: replace(box, flops=(0 if box.new else totals[key][0], totals[key][1])) if key in totals else box
        for key, box in nodes.items()
    }


def _closes(source: Source, node: fx.Node) -> bool:
    """Whether a node of a student is the sum that ends a new residual layer."""
    return node.op == "call_function" and any(
        used.op == "call_module" and used.target == f"{path}.last"
        for used in node.all_input_nodes
        for path in source.new_paths
    )


def _folds(source: Source, node: fx.Node, box: Node, taken: object, given: object) -> bool:
    """Whether a node can be folded into its input: it has no matrix weights, and keeps the spatial dimensions."""
    if node.op == "output":
        return False
    weights = list(source.inside.get(box.path, ())) if node.op == "call_module" else []
    weights += [str(n.target) for n in node.all_input_nodes if n.op == "get_attr"]
    return folds(source, weights, taken, given)


def folds(source: Source, weights: Sequence[str], taken: object, given: object) -> bool:
    """The same of what takes one value and gives one."""
    if not isinstance(given, Value):
        return False
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
