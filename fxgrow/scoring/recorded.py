"""A run of a model with its loss: the calls of its layers, and which call reads what another made.

Two calls meet where a path of the autograd graph leads from what one reads back to what the other gave, without passing
a third layer. So each call of a layer that is called several times has its own neighbours, and the paths along a
residual stream are all found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..base.structures import has_values
from ..base.wording import a_type
from ..errors import GrowError, in_words
from ..recording.model_run import source_location
from .layers import Layer

Loss = Callable[[nn.Module, Any], Tensor]
EXAMPLE = "loss is a function such as lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])"


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of a layer.

    Attributes:
        layer: The layer.
        given: What it read, without a graph.
        source: The node of the autograd graph that made what it read; None for data.
        made: What it gave.
    """

    layer: Layer
    given: Tensor
    source: Any
    made: Tensor


@dataclass(frozen=True, slots=True)
class Run:
    """One batch.

    Attributes:
        gradients: By call, the gradient of the loss by what the call gave; a call that the loss does not use has none.
        makers: By the same calls, those that made what each reads.
    """

    gradients: Mapping[Call, Tensor]
    makers: Mapping[Call, Sequence[Call]]


def check_layers(layers: Sequence[Layer], model: nn.Module) -> None:
    """Whether a model has layers that scores are computed from.

    Raises:
        GrowError: It has none.
    """
    if not layers:
        raise GrowError(
            f"{type(model).__name__} has no layer that scores are computed from: a linear layer, or a convolution of "
            "one group, with a weight of its own and not one that is computed from others"
        )


def run(model: nn.Module, layers: Sequence[Layer], batch: Any, loss: Loss, number: int) -> Run:
    """Run a model that is ours on one batch.

    Args:
        model: A copy, all of whose parameters require gradients; its buffers may change.
        layers: Its layers.
        batch: What `loss` takes.
        loss: The loss of the model on a batch.
        number: The batch's number, for messages.

    Raises:
        GrowError: The loss is not one finite number that depends on the model, or the batch has no values.
    """
    if not has_values(batch):
        raise GrowError(f"batch {number} is on the meta device and has no values; give batches with values")
    with _recording(layers) as calls, torch.enable_grad():
        try:
            value = loss(model, batch)
        except TypeError as error:
            raise GrowError(
                f"loss(model, batch) fails: {in_words(error)}{source_location(error)}; {EXAMPLE}"
            ) from error
        _check(value, calls, number)
    readers = [call for call in calls if call.layer.reads]
    found = torch.autograd.grad(value, [call.made for call in readers], allow_unused=True)
    gradients = {call: grad.detach() for call, grad in zip(readers, found, strict=True) if grad is not None}
    made_by = {call.made.grad_fn: call for call in calls}
    return Run(gradients, {call: _met(call.source, made_by) for call in gradients})


def _check(value: object, calls: Sequence[Call], number: int) -> None:
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = f" of the shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
        raise GrowError(
            f"loss gives {a_type(value)}{shape} for batch {number}; expected a tensor with one number: {EXAMPLE}"
        )
    if not value.requires_grad:
        raise GrowError(f"the loss of batch {number} does not depend on the model's parameters by a gradient")
    if not calls:
        raise GrowError(
            "loss calls no linear layer or convolution of the model that it is given, a copy; use its first argument"
        )
    if not bool(torch.isfinite(value)):
        raise GrowError(f"the loss of batch {number} is {value.item()}; give batches with a finite loss")


@contextmanager
def _recording(layers: Sequence[Layer]) -> Iterator[list[Call]]:
    calls: list[Call] = []
    with ExitStack() as stack:
        for layer in layers:
            handle = layer.module.register_forward_hook(_hook(layer, calls), with_kwargs=True)
            stack.callback(handle.remove)
        yield calls


def _hook(layer: Layer, calls: list[Call]) -> Callable[..., Tensor | None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], made: Any) -> Tensor | None:
        given = args[0] if args else kwargs.get("input")
        if not isinstance(given, Tensor) or not isinstance(made, Tensor) or made.grad_fn is None:
            return None
        calls.append(Call(layer, given.detach(), given.grad_fn, made))
        return made.clone()  # what is written in place later leaves `made` as it is

    return hook


def _met(source: Any, made_by: Mapping[Any, Call]) -> list[Call]:
    """The calls that a node of the autograd graph depends on without another call between."""
    found: list[Call] = []
    seen = {None}
    pending = [source]
    while pending:
        node = pending.pop()
        if node not in seen:
            seen.add(node)
            if node in made_by:
                found.append(made_by[node])
            else:
                pending += [earlier for earlier, _ in node.next_functions]
    return found
