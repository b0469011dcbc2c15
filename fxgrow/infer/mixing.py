"""Calls in which a size of the inputs could decide what happens to a width.

There are few in an ordinary network: code that cuts, merges or views channels by numbers that may have been computed
from sizes. Only where there is one, inference looks at other sizes of the inputs (`other_sizes`).
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import fx

from ..layouts.layout import Layout, Var, atoms, only_atom
from ..layouts.unify import Unifier
from ..model.tree import Mode
from ..ops import Value
from .spellings import RESHAPES, sizes_given

Nodes = Mapping[tuple[Mode, str], Any]


def mixed_layouts(results: Sequence[Value], *, divided: bool) -> Iterator[Layout]:
    """The layouts of results in which widths have factors beside them.

    Args:
        results: Of a call.
        divided: Whether a width was divided there, or could be for other sizes; then all layouts that hold widths.
    """
    for value in results:
        for layout in value.layouts:
            if any(var.input is None for var in atoms(layout)) and (divided or any(map(_is_product, layout))):
                yield layout


def _is_product(block: Sequence[Any]) -> bool:
    return len(block) > 1 or (len(block) == 1 and isinstance(block[0], tuple))


def may_follow_sizes(node: fx.Node, mode: Mode, nodes: Nodes, unifier: Unifier) -> bool:
    """Whether what a node does to dimensions could be another thing for other sizes of the inputs.

    A number among its arguments was computed from sizes, or a view leaves a size open.
    """
    if node.target in RESHAPES:
        return not _keeps_the_first(node, mode, nodes, unifier)
    return any(nodes.get((mode, n.name)) is None for n in node.all_input_nodes if n.op not in ("placeholder",))


def takes_computed_numbers(node: fx.Node, mode: Mode, nodes: Nodes) -> bool:
    """Whether a number among a node's arguments was computed from sizes by more than products: `1 + n // 9`.

    It may be 1 or 0 for the example, so that nothing is divided there, and another number for other sizes.
    """
    pending = [n for n in node.all_input_nodes if nodes.get((mode, n.name)) is None]
    seen: set[fx.Node] = set()
    while pending:
        number = pending.pop()
        if number in seen or number.op not in ("call_function", "call_method"):
            continue
        seen.add(number)
        if number.target not in _PASSED_ON:
            return True
        pending += [n for n in number.all_input_nodes if nodes.get((mode, n.name)) is None]
    return False


_PASSED_ON = (getattr, operator.getitem, operator.mul, "size")


def _keeps_the_first(node: fx.Node, mode: Mode, nodes: Nodes, unifier: Unifier) -> bool:
    """Whether a view is one of samples: `x.view(x.size(0), 6, -1)`, of which only the last size may be left open."""
    sizes = [size for _, size in sizes_given(node, 1)]
    x = node.args[0] if node.args else None
    value = nodes.get((mode, x.name)) if isinstance(x, fx.Node) else None
    if len(sizes) < 2 or not isinstance(value, Value) or not value.layouts:
        return False
    first, *rest = sizes
    if not all(isinstance(n, int) for n in rest) or -1 in rest[:-1]:
        return False
    asked = _dimension_asked(first)
    theirs = nodes.get((mode, asked.name)) if asked is not None else None
    if not isinstance(theirs, Value) or not theirs.layouts:
        return False
    ours, stated = (only_atom(unifier.resolve(v.layouts[0])) for v in (value, theirs))
    return isinstance(ours, Var) and ours is stated and ours.input is not None


def _dimension_asked(size: Any) -> fx.Node | None:
    """The tensor whose first size it is."""
    if not isinstance(size, fx.Node):
        return None
    if size.target == "size" and len(size.args) == 2 and size.args[1] == 0:
        return size.args[0] if isinstance(size.args[0], fx.Node) else None
    if size.target is operator.getitem and size.args[1] == 0 and isinstance(size.args[0], fx.Node):
        shape = size.args[0]
        is_shape = (shape.target is getattr and shape.args[1] == "shape") or (
            shape.target == "size" and len(shape.args) == 1
        )
        return shape.args[0] if is_shape and isinstance(shape.args[0], fx.Node) else None
    return None
