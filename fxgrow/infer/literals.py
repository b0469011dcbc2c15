"""Sizes that the user's code states as literals in the graph.

``x.view(-1, 320)``, ``split([32, 32])``, ``x[:, :16]``, ``F.group_norm(x, 8)``: each is
the size of some layout, which gives its new value. `spellings` has a function for each spelling. A literal in another
one is found when the student is checked, and its widths are pinned.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from ..base.structures import ArgumentPath
from ..capture.attribute_ints import AttributeInt
from ..layouts.layout import Layout
from ..layouts.unify import Kind
from ..model.layer_kinds import CONVOLUTIONS, GROUP_NORM, LAYER_NORM
from ..model.tree import Mode
from ..ops import Value
from .spellings import (
    FINDERS,
    RESHAPES,
    UNFLATTENS,
    VIEWS,
    Call,
    Found,
    Spelling,
    argument,
    is_found,
    read,
    sizes_given,
    source_of,
    stated_shape,
)


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


Nodes = Mapping[tuple[Mode, str], Any]


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
    finder = FINDERS.get(call.target)
    if finder is not None and isinstance(value, Value) and is_found(call.target, out):
        yield from finder(call, value, out)
    if call.target in _MADE and isinstance(out, Value):
        yield from stated_shape(sizes_given(call, _MADE[call.target]), out)


def kinds(node: Call | None, sizes: Sequence[int]) -> tuple[Kind, ...]:
    """Which sizes of a view are literals in the user's code, and which follow ("width").

    A literal (a number of groups or heads) is a "count": it grows where what it is a factor with cannot.
    """
    width: Kind = "width"
    free = (width,) * len(sizes)
    if node is None or node.target not in VIEWS:
        return free
    kind = _kind_in_code if isinstance(node, Spelling) else _kind
    given = [value for _, value in sizes_given(node, 1)] or [value for *_, value in _parts_joined(node, len(sizes))]
    if len(given) == len(sizes):
        return tuple([kind(v) for v in given])
    joined = [_kind(value) for *_, value in _parts_joined(node, len(sizes))]
    if "single" in joined:
        return tuple(joined)
    if node.target in UNFLATTENS:
        dim = argument(node, 1, "dim")[1]
        given = [value for _, value in sizes_given(node, 2)]
        rank = len(sizes) - len(given) + 1
        if isinstance(dim, int):
            at = dim % rank
            marks = [kind(v) for v in given]
            return (*free[:at], *marks, *free[at + len(marks) :])
    return free


def _kind(size: Any) -> Kind:
    """A literal counts rows; their number grows only if the width beside it cannot."""
    if type(size) is AttributeInt and size.is_single:
        return "single"
    return "count" if isinstance(size, int) and size >= 0 else "width"


def _kind_in_code(size: Any) -> Kind:
    """In code without a graph only attributes are known to be literals; other integers may be sizes of tensors."""
    return _kind(size) if type(size) is AttributeInt else "width"


def _each(node: Call, path: ArgumentPath, layouts: Sequence[Layout]) -> Iterator[tuple[ArgumentPath, Layout]]:
    value = read(node, path)
    if isinstance(value, int) and len(layouts) == 1:
        yield path, layouts[0]
    elif isinstance(value, list | tuple) and len(value) == len(layouts):
        for i, layout in enumerate(layouts):
            if isinstance(value[i], int) and value[i] >= 0:
                yield (*path, i), layout


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


# -- literals of tensors made from nothing -----------------------------------------------------------

_MADE: dict[Any, int] = {  # where among the arguments the shape begins
    **dict.fromkeys((torch.zeros, torch.ones, torch.empty, torch.full), 0),
    **dict.fromkeys(("new_zeros", "new_ones", "new_empty", "new_full"), 1),
}

# -- literals of views -------------------------------------------------------------------------------


def _divisors(node: fx.Node, mode: Mode, out: Value) -> Iterator[Literal]:
    """The 8 of ``x.view(n, t, 8, c // 8)``: a literal of another node that says how many parts there are here."""
    sizes = sizes_given(node, 1)
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
