"""Parts of a graph run on random inputs: a test that a cloned block is the identity.

`skip` decides by analysis what is a skip connection and what is zero. This test is independent of that analysis, so an
error in it leads to a refusal rather than to a wrong student.
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

from ..base.generators import same_randomness
from ..base.magnitude import is_inexact
from ..capture.traced import Traced
from ..model.copies import clone_shared
from ..model.tree import Mode, set_mode
from ..recording.run import TapedRun
from ..recording.runner import Runner, thawed
from ..recording.tape import Tape


def node_values(traced: Traced) -> dict[Mode, dict[fx.Node, Any]]:
    """The value of each node on the example inputs, per mode; tensors are on the meta device."""
    values: dict[Mode, dict[fx.Node, Any]] = {}
    for mode in traced.graphs:
        if mode in traced.tapes:
            values[mode] = {}
            run = TapedRun(traced.fresh(), traced.arguments, Tape, mode=mode, real=traced.inputs.real)
            run.graph(traced.graph(mode), partial(_Recorder, values[mode]))
    return values


class _Recorder(Runner):
    """A runner that stores the value of each node."""

    def __init__(self, values: dict[fx.Node, Any], root: nn.Module, graph: fx.Graph, tape: Tape) -> None:
        super().__init__(root, graph, tape)
        self.values = values

    def run_node(self, n: fx.Node) -> Any:
        self.values[n] = super().run_node(n)
        return self.values[n]


NOT_NEAR = "it is the identity, but not near it: a norm makes small values large"
SMALL = 1e-3  # of a parameter's size
LEAP = 0.1  # of the block's own effect
DRAWS = 8  # of random masks


def fault_on_random_inputs(
    root: nn.Module,
    mode: Mode,
    nodes: Sequence[fx.Node],
    ends: tuple[fx.Node, fx.Node],
    outside: Mapping[fx.Node, Any],
    zeros: Sequence[str],
) -> str:
    """Why a clone of a block is not the identity, or not near it, on random parameters and inputs; "" if it is.

    Not near: zeros before a norm without parameters make it the identity, but the first step would undo that.

    Args:
        root: The module tree, on the meta device; its parameters and buffers are replaced by random ones.
        mode: "train" or "eval".
        nodes: The nodes of the block, in order.
        ends: The node outside the block that it reads, and the node of the block that gives its result.
        outside: The values of all nodes outside the block that it reads; of tensors only shape and dtype are used.
        zeros: The names of the parameters that are zero in the clone.
    """
    entry, exit_node = ends
    tree = clone_shared(root)
    set_mode(tree, mode)
    with torch.no_grad(), same_randomness():
        values = {node: _random(value) for node, value in outside.items()}
        used = tuple({f"{node.target}." for node in nodes if node.op in ("call_module", "get_attr")})
        named = {name: tensor for name, tensor in _all_names(tree).items() if f"{name}.".startswith(used)}
        random = {id(tensor): _random_parameter(tensor) for tensor in named.values()}
        tensors = {name: random[id(tensor)] for name, tensor in named.items()}
        zero = {id(tensors[name]) for name in zeros}  # by identity: a parameter may have several names
        output = _run(tree, nodes, exit_node, values, tensors)
        if not isinstance(output, Tensor) or not bool(output.isfinite().all()):
            return "it is not finite"

        def of_clone(part: float) -> Tensor:
            filled = {name: part * t if id(t) in zero else t.clone() for name, t in tensors.items()}
            result: Tensor = _run(tree, nodes, exit_node, {**values, entry: output.clone()}, filled)
            return result

        if not torch.equal(output, of_clone(0.0)):
            return "it is not the identity"
        for _ in range(DRAWS):  # both effects with the same random masks
            state = torch.default_generator.get_state()
            near = (of_clone(SMALL) - output).abs().max()
            torch.default_generator.set_state(state)
            far = (of_clone(1.0) - output).abs().max()
            if far:
                return NOT_NEAR if near > LEAP * far else ""
    return ""


def _all_names(tree: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; a tied one under each of its names."""
    return {
        **dict(tree.named_parameters(remove_duplicate=False)),
        **dict(tree.named_buffers(remove_duplicate=False)),
    }


def _run(
    tree: nn.Module,
    nodes: Sequence[fx.Node],
    exit_node: fx.Node,
    outside: Mapping[fx.Node, Any],
    tensors: Mapping[str, Tensor],
) -> Any:
    values = {node: value.clone() if isinstance(value, Tensor) else value for node, value in outside.items()}
    for node in nodes:
        args, kwargs = thawed(fx.node.map_arg((node.args, node.kwargs), values.__getitem__))
        values[node] = run_node(tree, node, args, kwargs, tensors)
    return values[exit_node]


def run_node(tree: nn.Module, node: fx.Node, args: Any, kwargs: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The result of a node's operation on other arguments, with `tensors` in place of the tree's, by name."""
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
    """Meta tensors replaced by random ones (integers by zeros), constants in single precision; also in sequences."""
    if isinstance(value, torch.device):
        return torch.device("cpu")
    if isinstance(value, tuple | list):
        return type(value)(map(_random, value)) if type(value) in (tuple, list) else value
    if not isinstance(value, Tensor):
        return value
    if not value.is_meta:  # a constant
        return value.to(_single(value)) if is_inexact(value) else value
    return _randn(value) if is_inexact(value) else torch.zeros(value.shape, dtype=value.dtype)


def _random_parameter(tensor: Tensor) -> Tensor:
    """Matrices scaled by 1/sqrt(fan_in), vectors (biases, variances) in [0.5, 1.5), integers 0."""
    if not is_inexact(tensor):
        return torch.zeros(tensor.shape, dtype=tensor.dtype)
    if tensor.ndim < 2:
        return torch.rand(tensor.shape) + 0.5
    return _randn(tensor) / math.sqrt(max(1, tensor[0].numel()))


def _randn(like: Tensor) -> Tensor:
    """Normal numbers in single precision, complex where the tensor is."""
    return torch.randn(like.shape, dtype=_single(like))


def _single(like: Tensor) -> torch.dtype:
    return torch.complex64 if like.is_complex() else torch.float32
