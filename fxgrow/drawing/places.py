"""Where the changes of a plan stand in a graph of boxes.

The first plan of a chain has the names of the nodes that the boxes stand for. Later ones have those of a student's
graph, in which "add_2" may be another node. There, and in the graph of a model that is kept as one call, modules tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..plans.chain_entries import ChainChange
from ..plans.changes import Insert, Region, Repeat, in_order
from .folding import Flow, neighbours
from .view import Node


def in_order_made(changes: Iterable[ChainChange]) -> list[ChainChange]:
    """The changes in the order in which students get them."""
    return sorted(changes, key=lambda named: (named.number, *in_order(named.change)))


def boxes_before(flow: Flow, named: ChainChange, change: Insert) -> Iterator[str]:
    """The keys of the boxes behind which a new layer stands, one for each time that it is called.

    Args:
        flow: The graph so far, with what the plan and those before it have put in.
        named: The change with the names of the drawing.
        change: The same in the names of its plan.
    """
    if change.entry:
        yield from _within(flow, named.behind)[-1:]
        return
    names = [node.node for node in change.after_nodes if node.mode == "eval"]
    if named.number == 0 and not change.owner:
        names = [name for name in names if name in flow.nodes]
    else:
        names = [*dict.fromkeys(filter(None, (_box_of(flow, named, change, name) for name in names)))]
    yield from names


def regions(flow: Flow, named: ChainChange, change: Repeat) -> Iterator[Region]:
    """A block that has clones, by the keys of its boxes, once for each time that it is called."""
    if named.number == 0 and change.regions:
        yield from (region for region in change.regions if region.mode == "eval" and region.exit in flow.nodes)
        return
    inside = _within(flow, named.behind)
    read = {edge.source for edge in flow.edges if edge.target in inside and edge.when != "before"}.difference(inside)
    if len(read) == 1:  # of several, none is what the clones pass on
        yield Region("eval", read.pop(), inside[-1], tuple(inside))


def _within(flow: Flow, module: str) -> list[str]:
    """The boxes of a module and of what is in it; of a new one in a box, that box."""
    inside = [key for key, node in flow.nodes.items() if module and f"{node.path}.".startswith(f"{module}.")]
    around = [key for key, node in flow.nodes.items() if node.new and f"{module}.".startswith(f"{node.path}.")]
    return inside or around


def _box_of(flow: Flow, named: ChainChange, change: Insert, name: str) -> str | None:
    """The box of a node, by the modules: one that is called so, or else the new layer's, with its activation."""
    owner = named.follows.removesuffix(change.after.removeprefix(change.owner)) if change.owner else ""
    called = _as_node(f"{owner}.{name.lstrip('_')}" if owner else name)
    alike = [key for key, node in flow.nodes.items() if node.path and _is_called(node, called)]
    if alike:
        return max(reversed(alike), key=lambda key: len(flow.nodes[key].path))
    last = next(reversed(_within(flow, named.follows)), None)
    if last is None or called == _as_node(named.follows):
        return last
    readers, _ = neighbours(flow.edges)
    behind = readers.get(last, [])
    return behind[0] if len(behind) == 1 and behind[0] in flow.unary else last


def _as_node(path: str) -> str:
    """What torch.fx calls the node of a module, but for what it puts before a digit."""
    return path.replace(".", "_").lstrip("_")


def _is_called(node: Node, name: str) -> bool:
    own = _as_node(node.path)
    return own == name or (node.new and node.kind == "layer" and name.startswith(f"{own}_"))
