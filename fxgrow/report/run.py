"""One run of a model or a graph on real numbers, such that a teacher and its student can be compared.

No tape is entered, unlike in `recording.run`: nothing is recorded but results, and `DropoutOff` sees torch's own calls.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..base.generators import same_randomness
from ..base.isolation import users_device
from ..base.progress import advance
from ..base.torch_private import TorchDispatchMode, pytree
from ..model.example_inputs import ModelInputs
from ..model.tree import Mode, as_tree, set_mode, set_training
from ..model.walk import modules, named_modules, own_buffers
from ..recording.runner import Runner
from ..recording.tape import Tape


def run_module(model: nn.Module, inputs: ModelInputs, mode: Mode) -> Any:
    """The result of a model in a mode; the model and the inputs stay as they are."""
    args, kwargs = _copied((inputs.args, dict(inputs.kwargs)))
    with _comparable(model, mode):
        return model(*args, **kwargs)


def run_graph(root: nn.Module, graph: fx.Graph, arguments: Mapping[str, Any], mode: Mode) -> Mapping[str, Any]:
    """The tensor that each node of a graph gives in a mode, by the node's name; None for other results."""
    values: dict[str, Any] = {}

    class Recorder(Runner):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            values[n.name] = result.clone() if isinstance(result, Tensor) else None  # a later node may write to it
            advance()
            return result

    with _comparable(root, mode):
        tree = as_tree(root)
        Recorder(tree, graph, Tape({}), frees=True).run_on(_copied(arguments), list(named_modules(tree)))
    return values


def _copied(arguments: Any) -> Any:
    """Arguments in memory of their own: also results of other calls, sparse tensors and those of subclasses."""
    tensors = {id(t): t for t in pytree.tree_leaves(arguments) if isinstance(t, Tensor)}
    others = {key: t for key, t in tensors.items() if not t.is_leaf or t.layout != torch.strided or _is_derived(t)}
    return copy.deepcopy(arguments, {key: t.detach().clone() for key, t in others.items()})


def _is_derived(tensor: Tensor) -> bool:
    return type(tensor) not in (Tensor, nn.Parameter)


@contextmanager
def _comparable(model: nn.Module, mode: Mode) -> Iterator[None]:
    """A context with equal random numbers in each run, no gradients, a mode, no dropout, and buffers of its own."""
    with users_device(), same_randomness(), torch.no_grad(), _in_mode(model, mode), DropoutOff(), own_buffers(model):
        yield


@contextmanager
def _in_mode(model: nn.Module, mode: Mode) -> Iterator[None]:
    before = [(module, module.training) for module in modules(model)]
    try:
        set_mode(model, mode)
        yield
    finally:
        with suppress(Exception):  # a train() of the user's own, which may refuse
            model.train(before[0][1])
        for module, training in before:
            set_training(module, training=training)


class DropoutOff(TorchDispatchMode):
    """Replaces random masks by their mean, so that train mode is deterministic: dropout is the identity."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        aten = torch.ops.aten
        if func is aten.native_dropout.default:
            return args[0], torch.ones_like(args[0], dtype=torch.bool)
        if func is aten.bernoulli_.float:
            return args[0].fill_(args[1] if len(args) > 1 else 0.5)
        if func is aten.bernoulli.p:
            return torch.full_like(args[0], args[1])
        if func in (aten.rrelu_with_noise.default, aten.rrelu_with_noise_.default):
            return func(*args[:4], False)  # the slope's mean
        return func(*args, **(kwargs or {}))
