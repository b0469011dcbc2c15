"""Where in a graph a new layer goes: after a layer, its norm and its activation, wherever these set_module_stack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import fx, nn

from ..model.activations import Activation, of_node

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (nn.Linear, *CONVS, *TRANSPOSED)


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
        if _is(user, root, _NORMS, _NORM_FUNCTIONS):
            last, normed = user, True
        elif not _is(user, root, _PASSED, _PASSED_FUNCTIONS):
            return Anchor(layer, last, last, None, None, normed)
        current = user


def _is(node: fx.Node, root: nn.Module, modules: tuple[type, ...], functions: frozenset[object]) -> bool:
    if node.op == "call_module":
        return isinstance(root.get_submodule(str(node.target)), modules)
    others = [n for n in node.all_input_nodes[1:] if n.op != "get_attr"]
    return node.op == "call_function" and node.target in functions and not others


_NORMS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm,
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LocalResponseNorm,
)  # fmt: skip
_NORM_FUNCTIONS: frozenset[object] = frozenset(
    {F.batch_norm, torch.batch_norm, F.group_norm, F.layer_norm, F.instance_norm, F.rms_norm, F.local_response_norm}
)
_PASSED = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Identity,
)  # fmt: skip
_PASSED_FUNCTIONS: frozenset[object] = frozenset(
    {
        F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, F.adaptive_avg_pool1d,
        F.adaptive_avg_pool2d, F.adaptive_avg_pool3d, F.adaptive_max_pool1d, F.adaptive_max_pool2d,
        F.adaptive_max_pool3d, F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, torch.dropout,
    }
)  # fmt: skip
