"""Runs of parts of a graph on random numbers: whether a clone of a block is the identity.

`blocks` decides by analysis what is zero, a skip or a write without effect. This test is independent of that analysis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from ..base.isolation import rng_preserved
from ..capture.traced import Traced
from ..model.copies import clone_shared
from ..model.tree import Mode, set_mode
from ..recording.run import TapedRun
from ..recording.runner import Runner, thawed
from ..recording.tape import Tape


def node_values(traced: Traced) -> dict[Mode, dict[fx.Node, Any]]:
    """What each node of the graph of each mode gives on the example inputs; tensors are on the meta device."""
    values: dict[Mode, dict[fx.Node, Any]] = {}
    for mode in traced.graphs:
        if mode in traced.tapes:
            values[mode] = {}
            run = TapedRun(traced.fresh(), traced.arguments, Tape, mode=mode, real=traced.inputs.real)
            run.graph(traced.graph(mode), partial(_Recorder, values[mode]))
    return values


class _Recorder(Runner):
    def __init__(self, values: dict[fx.Node, Any], root: nn.Module, graph: fx.Graph, tape: Tape) -> None:
        super().__init__(root, graph, tape)
        self.values = values

    def run_node(self, n: fx.Node) -> Any:
        self.values[n] = super().run_node(n)
        return self.values[n]


def is_identity_on_random_inputs(
    root: nn.Module,
    mode: Mode,
    nodes: Sequence[fx.Node],
    ends: tuple[fx.Node, fx.Node],
    outside: Mapping[fx.Node, Any],
    zeros: Sequence[str],
) -> bool:
    """Whether some nodes, once some parameters are zero, give what they take, if that is what they gave before.

    Args:
        root: The tree that they run on, on the meta device; its parameters get random values.
        mode: "train" or "eval".
        nodes: Of a block, in order.
        ends: The node outside that it takes, and its own that gives the result.
        outside: The values of all nodes outside that it reads; of those that are tensors the shapes count.
        zeros: The names of the parameters.
    """
    entry, leave = ends
    tree = clone_shared(root)
    set_mode(tree, mode)
    with torch.no_grad(), rng_preserved():
        torch.manual_seed(0)
        values = {node: _random(value) for node, value in outside.items()}
        used = tuple({f"{node.target}." for node in nodes if node.op in ("call_module", "get_attr")})
        named = {name: tensor for name, tensor in _all_names(tree).items() if f"{name}.".startswith(used)}
        made = {id(tensor): _random_parameter(tensor) for tensor in named.values()}
        tensors = {name: made[id(tensor)] for name, tensor in named.items()}
        zero = {id(tensors[name]) for name in zeros}  # whatever else they are called
        given = _run(tree, nodes, leave, values, tensors)
        if not isinstance(given, Tensor) or not bool(given.isfinite().all()):
            return False
        zeroed = {name: torch.zeros_like(t) if id(t) in zero else t.clone() for name, t in tensors.items()}
        again = _run(tree, nodes, leave, {**values, entry: given.clone()}, zeroed)
    return torch.equal(given, again)


def _all_names(tree: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by every name that they have."""
    return {
        **dict(tree.named_parameters(remove_duplicate=False)),
        **dict(tree.named_buffers(remove_duplicate=False)),
    }


def _run(
    tree: nn.Module,
    nodes: Sequence[fx.Node],
    leave: fx.Node,
    outside: Mapping[fx.Node, Any],
    tensors: Mapping[str, Tensor],
) -> Any:
    values = {node: value.clone() if isinstance(value, Tensor) else value for node, value in outside.items()}
    for node in nodes:
        args, kwargs = thawed(fx.node.map_arg((node.args, node.kwargs), values.__getitem__))
        values[node] = run_node(tree, node, args, kwargs, tensors)
    return values[leave]


def run_node(tree: nn.Module, node: fx.Node, args: Any, kwargs: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The result of a node for given arguments, with other tensors instead of the tree's."""
    target: Any = node.target
    if node.op == "get_attr":
        return tensors[target] if target in tensors else _random(attrgetter(target)(tree))
    if node.op == "call_module":
        own = f"{target}."
        inside = {name.removeprefix(own): tensor for name, tensor in tensors.items() if name.startswith(own)}
        return functional_call(tree.get_submodule(target), inside, args, kwargs)
    if node.op == "call_method":
        return getattr(args[0], target)(*args[1:], **kwargs)
    return target(*args, **kwargs)


def _random(value: Any) -> Any:
    if isinstance(value, torch.device):
        return torch.device("cpu")
    if isinstance(value, tuple | list):
        return type(value)(map(_random, value)) if type(value) in (tuple, list) else value
    if not isinstance(value, Tensor) or not value.is_meta:  # a constant
        return value
    return torch.randn(value.shape) if value.is_floating_point() else torch.zeros(value.shape, dtype=value.dtype)


def _random_parameter(tensor: Tensor) -> Tensor:
    """Matrices scaled by 1/sqrt(fan_in), vectors (such as variances) in [0.5, 1.5], integers 0."""
    if not tensor.is_floating_point():
        return torch.zeros(tensor.shape, dtype=tensor.dtype)
    if tensor.ndim < 2:
        return torch.rand(tensor.shape) + 0.5
    return torch.randn(tensor.shape) / math.sqrt(max(1, tensor[0].numel()))
