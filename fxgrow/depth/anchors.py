"""The positions of new layers in a graph: after a layer and the norm, pooling and activation that follow it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from ..model.activations import Activation, of_node
from ..model.layer_kinds import DROPOUT, NORMS, POOLING, classes_of, functions_of


@dataclass(frozen=True, slots=True)
class Anchor:
    """The nodes after one call of a layer that a new layer can follow.

    Attributes:
        layer: The call of the layer.
        last: The layer or the last norm after it.
        before: The input of the activation: `last`, or a pooling or dropout after it.
        act: The node of the activation; None if no activation follows.
        activation: What `act` computes; None if no activation follows.
        normed: Whether a norm is between the layer and the activation.
    """

    layer: fx.Node
    last: fx.Node
    before: fx.Node
    act: fx.Node | None
    activation: Activation | None
    normed: bool


def anchors(graph: fx.Graph, root: nn.Module, path: str) -> Iterator[Anchor]:
    """The anchor after each call of the layer at `path`, in the order of the graph."""
    for node in graph.nodes:
        if node.op == "call_module" and node.target == path:
            yield _follow(node, root)


def _follow(layer: fx.Node, root: nn.Module) -> Anchor:
    """Follow the only user of each node through norms, pooling and dropout to an activation."""
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
        elif not _is(user, root, _SKIPPED, _SKIPPED_FUNCTIONS):
            return Anchor(layer, last, last, None, None, normed)
        current = user


def _is(node: fx.Node, root: nn.Module, modules: tuple[type, ...], functions: frozenset[Any]) -> bool:
    """Whether a node calls one of the modules or functions, with one activation as its input."""
    if node.op == "call_module":
        return isinstance(root.get_submodule(str(node.target)), modules)
    activations = [n for n in node.all_input_nodes[1:] if n.op != "get_attr"]
    return node.op == "call_function" and node.target in functions and not activations


_NORM_FUNCTIONS: frozenset[Any] = frozenset(functions_of(*NORMS))
_SKIPPED = (*classes_of(POOLING, DROPOUT), nn.Identity)
_SKIPPED_FUNCTIONS: frozenset[Any] = frozenset(functions_of(POOLING, DROPOUT))
