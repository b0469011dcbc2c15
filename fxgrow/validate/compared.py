"""The sizes that a guard of a graph was made of."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import fx

from ..capture.proxy import ASKED
from ..infer.asked_sizes import asked_of, asks_whether_empty, is_shape
from ..infer.width_graph import WidthGraph
from ..layouts.layout import Layout, atoms, is_fixed
from ..model.tree import Mode
from ..ops import Value

Grown = Callable[[Sequence[Layout]], tuple[str, ...]]


def compared(
    guard: fx.Node, widths: WidthGraph, mode: Mode, stated: Mapping[str, Sequence[Layout]], grown: Grown
) -> tuple[tuple[str, ...], bool]:
    """The growing widths that a guard was made of, and whether another size is among what it was made of.

    Args:
        guard: A node of a graph.
        widths: What was found for the graph.
        mode: Of the graph.
        stated: The layouts of numbers in calls, by the names of nodes.
        grown: Gives the names of the growing widths in layouts.
    """
    found: dict[str, None] = {}
    others = False
    for layouts, is_stated in _sizes(guard, widths, mode, stated):
        for layout in layouts:
            names = grown([layout])
            found.update(dict.fromkeys(names))
            others |= not is_stated and not names and is_fixed(layout)
    return tuple(found), others


def _sizes(
    guard: fx.Node, widths: WidthGraph, mode: Mode, stated: Mapping[str, Sequence[Layout]]
) -> Iterator[tuple[Sequence[Layout], bool]]:
    """The layouts of the tensors that a guard asks about, and of numbers that calls on the way state."""

    def value_of(node: Any) -> Any:
        return widths.nodes.get((mode, node.name)) if isinstance(node, fx.Node) else None

    pending, seen = list(guard.all_input_nodes), set()
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        if current.op == "call_module" or current.target in ASKED:  # how many entries, of which form: not how wide
            continue
        if asks_whether_empty(current):
            continue
        yield stated.get(current.name, ()), True
        for source in current.all_input_nodes:
            value = value_of(source)
            asked: Any = None
            if isinstance(value, Value):
                asked = source
                yield (() if isinstance(value_of(current), Value) else asked_of(current, value)), False
            elif is_shape(source) and current.target is operator.getitem:
                asked = source.args[0]
                yield _part(value_of(asked), current.args[1]), False
            else:
                pending.append(source)
            if isinstance(asked, fx.Node) and _is_made_of_numbers(asked, value_of, widths):
                pending.append(asked)


def _is_made_of_numbers(tensor: fx.Node, value_of: Callable[[Any], Any], widths: WidthGraph) -> bool:
    """Whether some sizes of a tensor are numbers that the calls which made it were given, as of `torch.zeros`."""
    value, groups = value_of(tensor), widths.groups_by_name
    if not isinstance(value, Value):  # no rule follows it
        return True
    return any(not groups[name].members for layout in value.layouts for name in atoms(layout))


def _part(tensor: Any, index: Any) -> Sequence[Layout]:
    if not isinstance(tensor, Value) or not isinstance(index, int | slice):
        return ()
    return tensor.layouts[index] if isinstance(index, slice) else (tensor.layouts[index],)
