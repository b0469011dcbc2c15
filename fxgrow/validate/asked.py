"""What a graph's result is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx

from ..base.structures import children_of


def returned_at(graph: fx.Graph, path: Sequence[str]) -> list[fx.Node]:
    """The nodes that a place of a graph's result is made of."""
    output = next(iter(reversed(graph.nodes)))
    found: Any = output.args[0]
    for key in path:
        found = dict(children_of(found)).get(key, found)
    return [found] if isinstance(found, fx.Node) else output.all_input_nodes
