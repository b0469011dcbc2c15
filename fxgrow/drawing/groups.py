"""The level `groups`: a box for each width group, an arrow for each layer that contracts one and produces another.

A concatenation [a + b] that a layer reads is a small box with arrows from a and b. For [a + b + c] the arrows start at
the box of [a + b] and at c, so that a dense network is a chain.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ..infer.findings import CONTRACT, IS_OUTPUT
from ..layouts.layout import Block, Layout, atoms
from ..ops import Value
from ..plans.chain_entries import ChainChange
from ..plans.changes import Insert, Repeat
from .alike import ALIKE, alike, merged
from .folding import total
from .graph import shown, value_of
from .recorded import flow_of
from .registry import level
from .shape import shape_of
from .source import Source
from .view import GROWS, PINNED, Drawing, Edge, Node, Swatch, When


@level("groups")
def groups(source: Source) -> Drawing:
    """Width groups and the layers between them; those that are alike are one box."""
    scene = _Scene(source)
    edges = list(scene.edges())
    used = {key for edge in edges for key in (edge.source, edge.target)}
    nodes = [scene.node(swatch) for swatch in source.legend.values()]
    nodes += [node for node in scene.joins.values() if node.key in used]
    nodes.sort(key=lambda node: scene.rank(node.key))
    legend = tuple(source.legend.values())
    arrows = tuple(_straightened(nodes, edges))
    all_of_it = Drawing(source.title, "groups", tuple(nodes), arrows, legend, source.notes, source.plan is not None)
    once = _merged(all_of_it, ALIKE)
    return once if shape_of(once).reads else _merged(all_of_it, 2)


def _merged(drawing: Drawing, least: int) -> Drawing:
    """The drawing with one box for all of at least so many that are alike."""
    into = alike(drawing.nodes, drawing.edges, least)
    if not into:
        return drawing
    nodes, edges = merged(drawing.nodes, drawing.edges, into)
    into = {node.key: into.get(node.key, node.key) for node in drawing.nodes}
    return replace(drawing, nodes=nodes, edges=edges, parts=drawing, into=into)


def _straightened(nodes: Sequence[Node], edges: Sequence[Edge]) -> Iterator[Edge]:
    """Mark the arrows on the shortest path from the first box to the farthest output as `main`."""
    import networkx as nx  # noqa: PLC0415 - importing it takes as long as importing all of fxgrow

    graph = nx.DiGraph((edge.source, edge.target) for edge in edges if not edge.back)
    start = next((node.key for node in nodes if node.key in graph and not graph.in_degree(node.key)), "")
    reached: dict[str, list[str]] = nx.single_source_shortest_path(graph, start) if start else {}
    paths = [reached[node.key] for node in nodes if node.kind == "output" and node.key in reached]
    path = max(paths or list(reached.values()), key=len, default=list[str]())
    steps = set(itertools.pairwise(path))
    yield from (replace(edge, main=not edge.back and (edge.source, edge.target) in steps) for edge in edges)


class _Scene:
    """The boxes and arrows of the level; boxes of concatenations are created while its arrows are."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.joins: dict[str, Node] = {}
        self._parts: dict[tuple[str, ...], str] = {}
        self._order = _order(source)
        self._boxes = _boxes(source)
        self._inputs = {
            name for layer in source.widths.tensors.values() for name in _read(layer.layouts, layer.roles)
        } - {name for t in source.widths.tensors for name in atoms(source.widths.produced(t))}

    def rank(self, key: str) -> float:
        """The position of a box in the order of the model."""
        return self._order.get(key, len(self._order))

    def node(self, swatch: Swatch) -> Node:
        group = self.source.widths.groups_by_name[swatch.name]
        outputs = {name for name, dim in self.source.io_dims if dim.kind == "output"}
        is_output = swatch.name in outputs or IS_OUTPUT in "; ".join(group.pinned)
        kind = "output" if is_output else "input" if swatch.name in self._inputs else "group"
        if kind == "input" and swatch.state != PINNED:
            kind = "group"
        boxes = self._boxes.get(swatch.name, ())
        number = 0 if self.source.alone and swatch.state != GROWS else len(swatch.layers)  # a plan has only some layers
        return Node(
            key=swatch.name,
            kind=kind,
            what=f"{number} layers" if number > 1 else "",
            path=swatch.name,
            size=swatch.size,
            group=swatch.name,
            groups=(swatch.name,),
            state=swatch.state,
            reason=swatch.reason,
            parameters=total(box.parameters for box in boxes),
            flops=total(box.flops for box in boxes),
            inside=swatch.layers,
            new=not swatch.size[0],
            start=_start(group.members),
        )

    def edges(self) -> Iterator[Edge]:
        """One arrow for all layers between two boxes; then those of concatenations, new layers and factors."""
        layers: dict[tuple[str, str, When], dict[str, list[str]]] = {}
        for name, path, target, when in self._layers():
            for start in name:
                if self.source.is_new(path):
                    when = "after"
                label = self._label(path)
                layers.setdefault((start, target, when), {}).setdefault(label, []).append(path)
        for (start, target, when), labels in layers.items():
            text = _counted(labels) if list(labels) != [""] or len(labels[""]) > 1 else ""
            tip = ", ".join(path for paths in labels.values() for path in paths)
            back = self.rank(target) <= self.rank(start)
            yield Edge(start, target, label=text if len(text) < 32 else f"{text[:30]}…", tip=tip, back=back, when=when)
        yield from self._into_joins()
        yield from self._changes()
        yield from self._factors()

    def _label(self, path: str) -> str:
        weight = f"{path}.weight"
        known = self.source.widths.tensors.get(weight)
        return self.source.kernel(weight) if known is not None and len(known.layouts) > 2 else ""

    def _layers(self) -> Iterator[tuple[list[str], str, str, When]]:
        """(boxes that a weight contracts, its module, the box that it produces, when) for each weight."""
        for tensor in self.source.widths.tensors.values():
            read = [
                la for la, role in zip(tensor.layouts, tensor.roles, strict=True) if role == CONTRACT and any(atoms(la))
            ]
            made = self.source.group_of([self.source.widths.produced(tensor.name)])
            if read and made:
                boxes = [box for layout in read if (box := self._box(layout))]
                yield boxes, tensor.name.rpartition(".")[0] or tensor.name, made, "both"

    def _box(self, layout: Layout) -> str:
        parts = tuple(filter(None, (self._one(block) for block in layout)))
        if not parts:
            return ""
        return self._join(parts, layout)

    def _one(self, block: Block) -> str:
        return self.source.group_of([(block,)])

    def _join(self, parts: tuple[str, ...], layout: Layout) -> str:
        if len(set(parts)) == 1:
            return parts[0]
        if parts not in self._parts:
            key = self._parts[parts] = " + ".join(parts)
            size = self.source.size(layout)
            names = tuple(dict.fromkeys(parts))
            self.joins[key] = Node(key, "join", "cat", size=size, groups=names, inside=names)
            self._order[key] = max(self.rank(name) for name in names) + 0.5
        return self._parts[parts]

    def _into_joins(self) -> Iterator[Edge]:
        for parts, key in self._parts.items():
            rest = list(parts)
            while rest:
                size = next(
                    (n for n in range(min(len(rest), len(parts) - 1), 1, -1) if tuple(rest[:n]) in self._parts), 1
                )
                start = self._parts[tuple(rest[:size])] if size > 1 else rest[0]
                yield Edge(start, key, tip="concatenated", back=self.rank(key) <= self.rank(start))
                rest = rest[size:]

    def _changes(self) -> Iterator[Edge]:
        """New layers, as a loop at their width."""
        if self.source.of_student:
            return
        loops: dict[str, dict[str, list[str]]] = {}
        for change in self.source.changes:
            width, planned = self._width_of(change), change.change
            kind = "×".join(map(str, planned.kernel)) if isinstance(planned, Insert) else "block"
            if width:
                loops.setdefault(width, {}).setdefault(kind, []).extend(change.new_paths)
        for width, new in loops.items():
            tip = ", ".join(path for paths in new.values() for path in paths)
            yield Edge(width, width, label=f"new: {_counted(new)}", tip=tip, back=True, when="after")

    def _width_of(self, named: ChainChange) -> str:
        """The width group of the input and output of a new layer or a clone; "" where it has none."""
        change, node, fill = named.change, "", ""
        if isinstance(change, Insert) and not (change.owner or change.entry):  # else it is in no graph of the model
            node = next((ref.node for ref in change.after_nodes), "")
        elif isinstance(change, Repeat):
            node, fill = next((region.exit for region in change.regions), ""), next(iter(change.fills), "")
        value = value_of(self.source, node) if node and named.number == 0 else None  # later ones name nodes of students
        if isinstance(value, Value):
            group = self.source.group_of([shown(self.source, value.layouts[1:] or value.layouts)])
            if group:
                return group
        return self._made_by(f"{named.behind}.{fill}" if fill else f"{named.follows}.weight") if named.new_paths else ""

    def _made_by(self, tensor: str) -> str:
        """The width group that a parameter makes; of one that is not drawn, that of the layer that it stands behind."""
        for name in (tensor, *self.source.originals(tensor)):
            layer = name.removesuffix(".weight")
            known = next((one for one in (name, f"{layer}.weight") if one in self.source.widths.tensors), "")
            group = self.source.group_of([self.source.widths.produced(known)]) if known else layer
            if group in self.source.legend:
                return group
        return ""

    def _factors(self) -> Iterator[Edge]:
        """Dashed lines between the factors of one dimension."""
        seen: dict[tuple[str, str], None] = {}
        for tensor in self.source.widths.tensors.values():
            for layout in tensor.layouts:
                for block in layout:
                    best = self._one(block)
                    for name in atoms((block,)):
                        if name != best and name in self.source.legend:
                            seen.setdefault((str(name), best))
        for name, best in seen:
            yield Edge(name, best, label="factor", tip=f"{name} × {best} is one dimension", skip=True, back=True)


def _boxes(source: Source) -> dict[str, list[Node]]:
    """The boxes of the level `ops` by the first width group that they produce, or else have."""
    boxes: dict[str, list[Node]] = {}
    for box in () if source.alone else flow_of(source).nodes.values():
        names = [name for name in (box.group, *box.groups) if name in source.legend]
        boxes.setdefault(names[0] if names else "", []).append(box)
    return boxes


def _counted(labels: Mapping[str, Sequence[str]]) -> str:
    """The number of layers per kind: "1×1 (3), 3×3, 2 blocks"; one without a kernel is a "layer"."""
    words = []
    for label, paths in labels.items():
        name = label or "layer"
        if name in ("layer", "block"):
            words.append(f"{len(paths)} {name}s" if len(paths) > 1 else name)
        else:
            words.append(f"{name} ({len(paths)})" if len(paths) > 1 else name)
    return ", ".join(words)


def _order(source: Source) -> dict[str, float]:
    """The position of each width group in the order of execution."""
    mode = source.widths.traced.modes[0]
    order: dict[str, float] = {}
    for prediction in source.widths.predictions[mode]:
        for _, value in prediction.flow.ins:
            if value.origin:
                layouts = source.widths.tensors[value.origin]
                for layout in [*_read_layouts(layouts.layouts, layouts.roles), source.widths.produced(value.origin)]:
                    for name in atoms(layout):
                        order.setdefault(str(name), len(order))
    return order | {name: order.get(name, len(order) + i) for i, name in enumerate(source.widths.groups_by_name)}


def _read(layouts: tuple[Layout, ...], roles: tuple[str, ...]) -> Iterator[str]:
    for layout in _read_layouts(layouts, roles):
        yield from atoms(layout)


def _read_layouts(layouts: tuple[Layout, ...], roles: tuple[str, ...]) -> list[Layout]:
    return [layout for layout, role in zip(layouts, roles, strict=True) if role == CONTRACT]


def _start(members: tuple[tuple[str, int], ...]) -> str:
    return "{}[{}]".format(*members[0]) if members else ""
