"""Sizes that the user's code states as literals in the graph.

``x.view(-1, 320)``, ``split([32, 32])``, ``x[:, :16]``, ``F.group_norm(x, 8)``: each is
the size of some layout, which gives its new value. There is one function per spelling. A literal in a spelling that is
not listed here is found when the student is checked, and its widths are pinned.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from ..base.structures import ArgumentPath
from ..capture.attribute_ints import AttributeInt
from ..layouts.layout import Layout
from ..layouts.unify import Kind
from ..model.layer_kinds import CONVOLUTIONS, GROUP_NORM, LAYER_NORM, RMS_NORM
from ..model.tree import Mode
from ..ops import Value

PART = "part"  # first step of the path of one of several equal parts: it has no literal, until parts differ


@dataclass(frozen=True, slots=True)
class Literal:
    """An integer in the graph that is the size of a layout.

    Attributes:
        mode: The graph.
        node: The node's name.
        path: Where among its arguments.
        layout: What it is the size of.
        part: (start, stop) inside the layout where the integer is a position rather than the whole size.
        sign: -1 where it counts from the end.
    """

    mode: Mode
    node: str
    path: ArgumentPath
    layout: Layout
    part: tuple[int, int] | None = None
    sign: int = 1


@dataclass(frozen=True, slots=True)
class Spelling:
    """A call as the user's code spells it, where no graph has a node for it."""

    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    name: str = ""
    op: str = "call_function"


Nodes = Mapping[tuple[Mode, str], Any]
Found = (
    tuple[ArgumentPath, Layout]
    | tuple[ArgumentPath, Layout, tuple[int, int]]
    | tuple[ArgumentPath, Layout, tuple[int, int], int]
)
Call = fx.Node | Spelling
Finder = Callable[[Call, Value, Any], Iterator[Found]]

_FINDERS: dict[Any, Finder] = {}


def _finder(*targets: Any) -> Callable[[Finder], Finder]:
    def register(function: Finder) -> Finder:
        for target in targets:
            if target in _FINDERS:
                raise ValueError(f"{target} has a finder already")
            _FINDERS[target] = function
        return function

    return register


def of_node(node: fx.Node, mode: Mode, nodes: Nodes, declared: Mapping[str, tuple[Layout, ...]]) -> Iterator[Literal]:
    """The literals of one node, given the layouts of all nodes so far and what its rules declared."""
    if node.op not in ("call_function", "call_method"):
        return
    source = source_of(node)
    value = nodes.get((mode, source.name)) if isinstance(source, fx.Node) else None
    for path, layout, *rest in sizes_of(node, value, nodes[mode, node.name], declared):
        yield Literal(mode, node.name, path, layout, *rest)
    if node.target in RESHAPES and isinstance(nodes[mode, node.name], Value):
        yield from _divisors(node, mode, nodes[mode, node.name])
        yield from _joined(node, mode, nodes[mode, node.name])


def source_of(call: Call) -> Any:
    """The first argument: the tensor that a call is about."""
    return call.args[0] if call.args else call.kwargs.get("input")


def sizes_of(call: Call, value: Any, out: Any, declared: Mapping[str, tuple[Layout, ...]]) -> Iterator[Found]:
    """The sizes that a call states: where among its arguments, and of which layout.

    Args:
        call: The call.
        value: What is known of its first argument.
        out: What is known of its result.
        declared: What the rules of its operators declared.
    """
    for path, layouts in _declared(call, declared):
        yield from _each(call, path, layouts)
    finder = _FINDERS.get(call.target)
    if finder is not None and isinstance(value, Value):
        yield from finder(call, value, out)
    if call.target in _MADE and isinstance(out, Value):
        yield from _stated_shape(_sizes(call, _MADE[call.target]), out)


def kinds(node: Call | None, sizes: Sequence[int]) -> tuple[Kind, ...]:
    """Which sizes of a view are literals in the user's code, and which follow ("width").

    A literal (a number of groups or heads) is a "count": it grows where what it is a factor with cannot.
    """
    width: Kind = "width"
    free = (width,) * len(sizes)
    if node is None or node.target not in _VIEWS:
        return free
    kind = _kind_in_code if isinstance(node, Spelling) else _kind
    given = [value for _, value in _sizes(node, 1)] or [value for *_, value in _parts_joined(node, len(sizes))]
    if len(given) == len(sizes):
        return tuple([kind(v) for v in given])
    if node.target in _UNFLATTENS:
        dim = argument(node, 1, "dim")[1]
        given = [value for _, value in _sizes(node, 2)]
        rank = len(sizes) - len(given) + 1
        if isinstance(dim, int):
            at = dim % rank
            marks = [kind(v) for v in given]
            return (*free[:at], *marks, *free[at + len(marks) :])
    return free


def _kind(size: Any) -> Kind:
    """A literal counts rows; their number grows only if the width beside it cannot."""
    return "count" if isinstance(size, int) and size >= 0 else "width"


def _kind_in_code(size: Any) -> Kind:
    """In code without a graph only attributes are known to be literals; other integers may be sizes of tensors."""
    return "count" if type(size) is AttributeInt else "width"


def argument(node: Call, position: int, name: str) -> tuple[ArgumentPath, Any]:
    """Where an argument stands, and what it is."""
    if len(node.args) > position:
        return ("args", position), node.args[position]
    return ("kwargs", name), node.kwargs.get(name)


def _each(node: Call, path: ArgumentPath, layouts: Sequence[Layout]) -> Iterator[tuple[ArgumentPath, Layout]]:
    value = read(node, path)
    if isinstance(value, int) and len(layouts) == 1:
        yield path, layouts[0]
    elif isinstance(value, list | tuple) and len(value) == len(layouts):
        for i, layout in enumerate(layouts):
            if isinstance(value[i], int) and value[i] >= 0:
                yield (*path, i), layout


def read(node: Call, path: ArgumentPath) -> Any:
    """The literal at a path of a node's arguments."""
    value: Any = node.args if path[0] == "args" else node.kwargs
    for step in path[1:]:
        value = getattr(value, str(step)) if isinstance(value, slice) else value[step]
    return value


# -- literals that rules declare by the name of the argument ---------------------------------------

_NAMED: dict[Any, tuple[tuple[int, str], ...]] = {
    function: tuple([(position, name) for name, position in kind.arguments.items()])
    for kind in (GROUP_NORM, LAYER_NORM, *CONVOLUTIONS)
    for function in kind.functions
}


def _declared(
    node: Call, declared: Mapping[str, tuple[Layout, ...]]
) -> Iterator[tuple[ArgumentPath, tuple[Layout, ...]]]:
    for position, name in _NAMED.get(node.target, ()):
        path, value = argument(node, position, name)
        if name in declared and value is not None:
            yield path, declared[name]


# -- literals of views -------------------------------------------------------------------------------

RESHAPES = ("view", "reshape", "expand", torch.reshape)
_UNFLATTENS = ("unflatten", torch.unflatten)
_VIEWS = (*RESHAPES, *_UNFLATTENS)


def stated_sizes(view: Call) -> list[Any]:
    """The sizes that a view states, in order: integers, and nodes of the graph."""
    return [size for _, size in _sizes(view, 1)]


def _sizes(node: Call, start: int) -> list[tuple[ArgumentPath, Any]]:
    """The sizes given to a view, as varargs or as one sequence."""
    args = node.args[start:]
    if args and isinstance(args[0], list | tuple):
        return [(("args", start, i), v) for i, v in enumerate(args[0])]
    if args:
        return [(("args", start + i), v) for i, v in enumerate(args)]
    for name in ("size", "shape", "sizes"):
        if isinstance(node.kwargs.get(name), list | tuple):
            return [(("kwargs", name, i), v) for i, v in enumerate(node.kwargs[name])]  # type: ignore[arg-type]
    return []


@_finder(*RESHAPES)
def _reshape(node: Call, x: Value, out: Value) -> Iterator[Found]:
    yield from _stated_shape(_sizes(node, 1), out)


def _stated_shape(sizes: list[tuple[ArgumentPath, Any]], out: Value) -> Iterator[Found]:
    if len(sizes) == len(out.layouts):
        for (path, value), layout in zip(sizes, out.layouts, strict=True):
            if isinstance(value, int) and value >= 0:
                yield path, layout


def _divisors(node: fx.Node, mode: Mode, out: Value) -> Iterator[Literal]:
    """The 8 of ``x.view(n, t, 8, c // 8)``: a literal of another node that says how many parts there are here."""
    sizes = _sizes(node, 1)
    if len(sizes) == len(out.layouts):
        for _, size in sizes:
            if isinstance(size, fx.Node) and size.target is operator.floordiv:
                for (_, value), layout in zip(sizes, out.layouts, strict=True):
                    if isinstance(value, int) and value == size.args[1]:
                        yield Literal(mode, size.name, ("args", 1), layout)


def _joined(node: fx.Node, mode: Mode, out: Value) -> Iterator[Literal]:
    """The sizes of ``x.view(x.size()[:-1] + (8, 32))``: literals of the node that joins them."""
    for (name, path, value), layout in zip(_parts_joined(node, len(out.layouts)), out.layouts, strict=False):
        if isinstance(value, int) and value >= 0:
            yield Literal(mode, name, path, layout)


def _parts_joined(call: Call, rank: int) -> list[tuple[str, ArgumentPath, Any]]:
    """For each size of a view that takes joined tuples: a node's name, where in it that size stands, and what it is.

    Where a part of a shape is joined, there are no literals: the value is None.
    """
    sizes = call.args[1] if len(call.args) == 2 else None
    front: list[tuple[str, ArgumentPath, Any]] = []
    back: list[tuple[str, ArgumentPath, Any]] = []
    while isinstance(sizes, fx.Node) and sizes.target in (operator.add, operator.iadd):
        name, (left, right) = sizes.name, sizes.args
        if isinstance(right, list | tuple):
            back[:0] = [(name, ("args", 1, i), v) for i, v in enumerate(right)]
            sizes = left
        elif isinstance(left, list | tuple):
            front += [(name, ("args", 0, i), v) for i, v in enumerate(left)]
            sizes = right
        else:
            break
    if not front and not back:
        return []
    return [*front, *[("", (), None)] * (rank - len(front) - len(back)), *back]


@_finder(*_UNFLATTENS)
def _unflatten(node: Call, x: Value, out: Value) -> Iterator[Found]:
    dim = argument(node, 1, "dim")[1]
    if isinstance(dim, int):
        at = dim % len(x.layouts)
        for (path, value), layout in zip(_sizes(node, 2), out.layouts[at:], strict=False):
            if isinstance(value, int) and value >= 0:
                yield path, layout


# -- literals of tensors made from nothing -----------------------------------------------------------

_MADE: dict[Any, int] = {  # where among the arguments the shape begins
    **dict.fromkeys((torch.zeros, torch.ones, torch.empty, torch.full), 0),
    **dict.fromkeys(("new_zeros", "new_ones", "new_empty", "new_full"), 1),
}

# -- literals of norms -------------------------------------------------------------------------------


@_finder(*RMS_NORM.functions)  # PyTorch takes it apart on the meta device, so no rule declares its shape
def _rms_norm(node: Call, x: Value, out: Value) -> Iterator[Found]:
    path, shape = argument(node, RMS_NORM.arguments["normalized_shape"], "normalized_shape")
    if isinstance(shape, list | tuple):
        for i, (length, layout) in enumerate(zip(shape, x.layouts[-len(shape) :], strict=True)):
            if isinstance(length, int):
                yield (*path, i), layout


# -- literals of parts -------------------------------------------------------------------------------


@_finder("split", torch.split, "split_with_sizes")
def _split(node: Call, x: Value, out: Any) -> Iterator[Found]:
    path, sizes = argument(node, 1, "split_size_or_sections")
    if sizes is None:
        path, sizes = argument(node, 1, "split_size")
    dim = argument(node, 2, "dim")[1] or 0
    if isinstance(sizes, list | tuple):
        for i, (value, part) in enumerate(zip(sizes, out, strict=True)):
            if isinstance(value, int):
                yield (*path, i), part.layouts[dim]
    elif isinstance(sizes, int):
        yield path, out[0].layouts[dim]
        yield from _parts(out, dim)


@_finder("chunk", torch.chunk)
def _chunk(node: Call, x: Value, out: Any) -> Iterator[Found]:
    dim = argument(node, 2, "dim")[1] or 0
    if isinstance(dim, int):
        yield from _parts(out, dim)


def _parts(out: Sequence[Value], dim: int) -> Iterator[Found]:
    for i, part in enumerate(out):
        yield (PART, i), part.layouts[dim]


@_finder("narrow", torch.narrow)
def _narrow(node: Call, x: Value, out: Value) -> Iterator[Found]:
    dim = argument(node, 1, "dim")[1]
    start_path, start = argument(node, 2, "start")
    length_path, length = argument(node, 3, "length")
    if isinstance(start, int) and isinstance(dim, int):
        yield start_path, x.layouts[dim], (0, start)
        if isinstance(length, int):
            yield length_path, out.layouts[dim]


@_finder(operator.getitem)
def _getitem(node: Call, x: Value, out: Any) -> Iterator[Found]:
    index = node.args[1]
    entries = index if isinstance(index, tuple) else (index,)
    ahead = sum(1 for e in entries if e is not None and e is not Ellipsis)
    dim = 0
    for number, entry in enumerate(entries):
        if entry is Ellipsis:
            dim += len(x.layouts) - ahead
            continue
        if entry is None:
            continue
        if isinstance(entry, slice) and entry.step in (None, 1):
            length = x.shape[dim]
            path: ArgumentPath = ("args", 1, number) if isinstance(index, tuple) else ("args", 1)
            for name, bound in (("start", entry.start), ("stop", entry.stop)):
                if isinstance(bound, int) and 0 < abs(bound) <= length:
                    span = (0, bound) if bound > 0 else (length + bound, length)
                    yield (*path, name), x.layouts[dim], span, 1 if bound > 0 else -1
        dim += 1
