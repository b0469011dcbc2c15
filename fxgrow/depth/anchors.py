"""Where in a graph a new layer goes: after a layer, its norm and its activation, where these stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from ..model.activations import Activation, of_node
from ..model.layer_kinds import BATCH_NORM, DROPOUT, NORMS, POOLING, classes_of, functions_of


@dataclass(frozen=True, slots=True)
class Anchor:
    """A place after a layer.

    Attributes:
        layer: The call of the layer.
        last: The last node before the activation that changes values: the layer itself or its norm.
        before: The node whose value the activation takes: `last`, or a pooling between.
        act: The activation's node; None where there is none.
        activation: What it computes.
        normed: Whether a norm stands between.
    """

    layer: fx.Node
    last: fx.Node
    before: fx.Node
    act: fx.Node | None
    activation: Activation | None
    normed: bool


def spots(graph: fx.Graph, root: nn.Module, path: str) -> Iterator[Anchor]:
    """The place after each call of a layer."""
    for node in graph.nodes:
        if node.op == "call_module" and node.target == path:
            yield _follow(node, root)


def _follow(layer: fx.Node, root: nn.Module) -> Anchor:
    last = current = layer
    normed = False
    while True:
        users = list(current.users)
        user = users[0] if len(users) == 1 else None
        if user is None or not user.all_input_nodes or user.all_input_nodes[0] is not current:
            return Anchor(layer, last, last, None, None, normed)
        activation = of_node(user, root)
        if activation is not None and activation.name != "Identity":
            return Anchor(layer, last, current, user, activation, normed)
        if _is(user, root, classes_of(*NORMS), _NORM_FUNCTIONS):
            last, normed = user, True
        elif not _is(user, root, _PASSED, _PASSED_FUNCTIONS):
            return Anchor(layer, last, last, None, None, normed)
        current = user


def _is(node: fx.Node, root: nn.Module, modules: tuple[type, ...], functions: frozenset[Any]) -> bool:
    if node.op == "call_module":
        return isinstance(root.get_submodule(str(node.target)), modules)
    others = [n for n in node.all_input_nodes[1:] if n.op != "get_attr"]
    return node.op == "call_function" and node.target in functions and not others


_NORM_FUNCTIONS: frozenset[Any] = frozenset((*functions_of(*NORMS), *BATCH_NORM.native))
_PASSED = (*classes_of(POOLING, DROPOUT), nn.Identity)
_PASSED_FUNCTIONS: frozenset[Any] = frozenset((*functions_of(POOLING, DROPOUT), *DROPOUT.native))
