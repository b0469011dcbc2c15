"""A model that is kept as one call, as the graph of the operators that its run called.

A run of the model records each call of ATen, with its module and the values that it reads and makes. The calls of one
leaf module in a row are one box, as in the graph of a model that was traced; each call outside of leaf modules is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ..costs.torchs import formulas
from ..infer.findings import Prediction
from ..model.call_args import labelled
from ..model.tree import Mode
from ..ops import Value
from ..recording.call import Call
from ..recording.run import named_inputs
from .additions import with_new
from .folding import Flow, total
from .graph import folds, graph_of, shown
from .source import Source
from .view import Edge, Node

MOVES = (
    "view",
    "_unsafe_view",
    "reshape",
    "expand",
    "clone",
    "t",
    "detach",
    "alias",
    "contiguous",
    "_to_copy",
    "copy_",
)


@dataclass(slots=True)
class _Box:
    """The calls of a box, in order."""

    key: str
    path: str
    leaf: bool
    calls: list[tuple[Call, Prediction]] = field(default_factory=list)

    @property
    def made(self) -> set[int | str | None]:
        """The values that it makes."""
        return {key for _, prediction in self.calls for key, _ in prediction.flow.outs}

    @property
    def weights(self) -> list[str]:
        """The parameters and buffers that it reads, some of them by a view."""
        read = [value.origin for _, prediction in self.calls for _, value in prediction.flow.ins if value.origin]
        return list(dict.fromkeys(read))

    @property
    def result(self) -> Value | None:
        """What is known of its result."""
        outs = [value for _, value in self.calls[-1][1].flow.outs]
        return outs[0] if outs else None

    @property
    def computes(self) -> bool:
        """Whether it makes something of parameters alone, and not only another view of one."""
        origin = self.result.origin if self.result is not None else ""
        return not self.taken and bool(self.weights) and (not origin or len(self.weights) > 1)

    @property
    def taken(self) -> list[tuple[int | str, Value]]:
        """The activations that it reads, which it does not make."""
        made = self.made
        ins = [pair for _, prediction in self.calls for pair in prediction.flow.ins]
        return [(key, value) for key, value in ins if key is not None and key not in made and not value.origin]


def flow_of(source: Source) -> Flow:
    """The graph of the model; of a model that is kept as one call, the graph of what it called."""
    return recorded(source) if source.widths.traced.opaque else graph_of(source)


def recorded(source: Source) -> Flow:
    """A box for each call of a leaf module or an operator, with an input and an output box for each of the model's."""
    boxes = list(_boxes(source))
    arguments = source.widths.traced.arguments
    names = dict(zip(named_inputs(arguments), labelled(arguments), strict=True))
    makers: dict[int | str, str] = {}
    writers: dict[int | str, list[str]] = {}  # the boxes that wrote into a value later, in place or through a view
    memory: dict[int | str, int | str] = {}  # the value whose memory a view has
    nodes: dict[str, Node] = {}
    edges: dict[tuple[str, str], Edge] = {}
    unary: set[str] = set()
    counted: set[str] = set()
    work, known = iter([flops for _, flops in source.work]), formulas()
    for box in boxes:
        for key, value in box.taken:
            if key not in makers and isinstance(key, str):
                makers[key] = key
                nodes[key] = Node(key, "input", names.get(key, key))
            for maker in filter(None, (makers.get(key), *writers.get(key, ()))):
                if maker != box.key:
                    edges.setdefault((maker, box.key), Edge(maker, box.key, _shape(source, value)))
        flops = total(next(work) for call, _ in box.calls if call.op.overloadpacket in known)
        nodes[box.key] = replace(_node(source, box, counted), flops=flops)
        if _is_folded(source, box):
            unary.add(box.key)
        for call, prediction in box.calls:
            outs = [key for key, _ in prediction.flow.outs if key is not None]
            first = prediction.flow.ins[0][0] if prediction.flow.ins else None
            if first is not None and (prediction.flow.mutates or _is_view(call)):
                memory.update((key, memory.get(first, first)) for key in outs)
            if first is not None and prediction.flow.mutates:  # and so what else is in this memory
                root = memory.get(first, first)
                for key in (one for one in makers if memory.get(one, one) == root):
                    writers.setdefault(key, []).append(box.key)
            makers.update((key, box.key) for key in outs)
    shapes = {edge.source: edge.shapes for edge in edges.values()}
    for name, maker in _outputs(source, makers):
        nodes[name] = Node(name, "output", name)
        edges[maker, name] = Edge(maker, name, shapes.get(maker) or _shape(source, _result(boxes, maker)))
    flow = Flow(nodes, tuple(edges.values()), frozenset(unary))
    results = {box.key: box.result for box in boxes}
    return flow if source.of_student else with_new(source, flow, results.get)


def _is_view(call: Call) -> bool:
    """Whether the result is a view of what the call takes."""
    return any(one.alias_info is not None and not one.alias_info.is_write for one in call.op._schema.returns)


def _mode(source: Source) -> Mode:
    """The mode whose run is drawn: train only where the model runs in no other."""
    return "eval" if "eval" in source.widths.calls else "train"


def _boxes(source: Source) -> Iterator[_Box]:
    """The boxes in the order of the run."""
    widths = source.widths
    paths = {".".join(path.split(".")[:-1]) for path in widths.traced.classes if path}
    box: _Box | None = None
    numbers: dict[str, int] = {}
    mode = _mode(source)
    for call, prediction in zip(widths.calls[mode], widths.predictions[mode], strict=False):
        leaf = bool(call.module) and call.module not in paths
        if box is None or not leaf or box.path != call.module or _starts(source, box, prediction):
            if box is not None:
                yield box
            name = call.module if leaf else call.site
            numbers[name] = numbers.get(name, 0) + 1
            box = _Box(f"{name} / {numbers[name]}", call.module, leaf)
        box.calls.append((call, prediction))
    if box is not None:
        yield box


def _starts(source: Source, box: _Box, prediction: Prediction) -> bool:
    """Whether a call is of another call of the leaf module than the calls so far."""
    read = {key for key, _ in prediction.flow.ins if key is not None}
    tensors = read & source.widths.tensors.keys()
    before = {key for _, earlier in box.calls for key, _ in earlier.flow.ins}
    if tensors & before:
        return True
    others = read - tensors
    return bool(others) and bool(box.weights) and not others & box.made


def _node(source: Source, box: _Box, counted: set[str]) -> Node:
    result = box.result
    layouts = result.layouts if result is not None else ()
    dim = shown(source, layouts[1:] or layouts)
    group = source.group_of([dim])
    if not group and box.leaf:
        group = source.group_of(source.widths.produced(tensor) for tensor in box.weights[:1])
    swatch = source.legend.get(group)
    own = [name for name in box.weights if name in source.widths.tensors]
    holds = [*source.inside.get(box.path, ()), *own] if box.leaf else own if box.taken or box.computes else []
    counts = [name for name in dict.fromkeys(holds) if name in source.parameter_names and name not in counted]
    counted.update(counts)
    new = source.is_new(box.path)
    size = source.size(dim) if dim and layouts[1:] and (group or box.leaf) else (0, 0)
    others = (source.group_of([la]) for name in own for la in source.widths.tensors[name].layouts)
    inner = (source.group_of([(block,)]) for layout in layouts for block in layout)
    return Node(
        key=box.key,
        kind="layer" if box.leaf else "join" if box.computes or len({key for key, _ in box.taken}) > 1 else "op",
        what=source.what(box.path) if box.leaf else box.calls[0][0].op.overloadpacket.__name__.strip("_"),
        path=box.path,
        size=(0, size[1]) if new else size,
        group=group,
        groups=tuple(dict.fromkeys(filter(None, [group, *inner, *others]))),
        state=swatch.state if swatch else "",
        reason=swatch.reason if swatch else "",
        new=new,
        parameters=total(map(source.parameters, counts)),
        start=next(
            (
                f"{n}[{d}]"
                for n in own
                for d, la in enumerate(source.widths.tensors[n].layouts)
                if group and source.group_of([la]) == group
            ),
            "",
        ),
        kernel=source.larger_kernel(box.path) if box.leaf else None,
    )


def _is_folded(source: Source, box: _Box) -> bool:
    """Whether a box is part of the layer that it follows: it has one input and no matrix, and keeps the positions."""
    taken = dict(box.taken)
    if len(taken) != 1:
        return False
    if all(call.op.overloadpacket.__name__ in MOVES for call, _ in box.calls):
        return True
    return folds(source, box.weights, next(iter(taken.values())), box.result)


def _shape(source: Source, value: Value | None) -> tuple[str, str]:
    """The shape of a value without the batch, before and after growth."""
    layouts = value.layouts if value is not None else ()
    sizes = [source.size(layout) for layout in (layouts[1:] or layouts)]
    return "×".join(str(old) for old, _ in sizes), "×".join(str(new) for _, new in sizes)


def _result(boxes: list[_Box], key: str) -> Value | None:
    return next((box.result for box in boxes if box.key == key), None)


def _outputs(source: Source, makers: dict[int | str, str]) -> Iterator[tuple[str, str]]:
    """(name, the box that makes it) of each tensor that the model returns."""
    for path, text in source.widths.returned[_mode(source)].entries:
        kind, _, number = text.partition(" ")
        maker = makers.get(int(number)) if kind == "value" and number.isdigit() else makers.get(text)
        if maker is not None:
            yield f"output{''.join(path)}", maker
