"""The modules of a new layer, initialised so that inserting it does not change the function."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ..model.activations import Activation, ParametricActivation
from ..model.layer_kinds import BATCH_NORM, is_a
from ..plans.changes import Insert

MAX_GROUPS = 32  # of a new group norm


class Residual(nn.Sequential):
    """x + f(x), with f the sequence of its modules.

    Graphs call the modules and add x themselves; `forward` is for code that calls the container.
    """

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + super().forward(x)
        return result


def build_new_layer(new: Insert, draw: Generator, device: torch.device, dtype: torch.dtype) -> nn.Sequential:
    """The modules of a new layer in the order in which they are called.

    Args:
        new: The layer's entry in the plan.
        draw: The generator for random weights.
        device: The device of its parameters.
        dtype: The dtype of its parameters.

    Returns:
        A sequence of modules; a `Residual` one if `new.kind` is "residual".
    """
    parts: dict[str, nn.Module] = {"linear" if new.layer == "Linear" else "conv": _layer(new, draw)}
    if new.norm:
        parts["norm"] = _norm(new)
    if new.activation is not None:
        parts["act"] = _activation(new.activation, new.parametric, new.channels)
    if new.kind == "residual":
        parts["last"] = _layer(new, draw)
    kind = Residual if new.kind == "residual" else nn.Sequential
    block = kind(OrderedDict(parts)).to(device, dtype)
    _init_as_identity(new, parts)
    return block


def _init_as_identity(new: Insert, parts: dict[str, nn.Module]) -> None:
    """Initialise the parts so that the layer is the identity; a "random" layer is left as it is."""
    if new.kind == "residual":
        for tensor in parts["last"].parameters():
            fill(tensor, 0)
    elif new.kind == "identity":
        _identity(next(iter(parts.values())))
        norm: Any = parts.get("norm")
        if norm is not None and is_a(norm, BATCH_NORM):  # the inverse of its running variance of 1
            nn.init.constant_(norm.weight, math.sqrt(1 + norm.eps))


def _layer(new: Insert, draw: Generator) -> Any:
    """A linear or convolution layer with torch.nn's default initialisation, drawn from the generator."""
    if new.layer == "Linear":
        layer: Any = nn.utils.skip_init(nn.Linear, new.channels, new.channels)
    else:
        even = any(size % 2 == 0 for size in new.kernel)
        padding = "same" if even else tuple(size // 2 for size in new.kernel)
        layer = nn.utils.skip_init(
            getattr(nn, new.layer), new.channels, new.channels, new.kernel, padding=padding, groups=new.groups
        )
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=draw)
    bound = 1 / math.sqrt(layer.weight[0].numel())
    nn.init.uniform_(layer.bias, -bound, bound, generator=draw)
    return layer


def _identity(layer: Any) -> None:
    """Make a linear or convolution layer the identity; of a grouped one each group."""
    middle = tuple((size - 1) // 2 for size in layer.weight.shape[2:])
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        taps = layer.weight[(slice(None), slice(None), *middle)]
        channels = torch.arange(len(taps))
        taps[channels, channels % taps.shape[1]] = 1.0  # the same channel within its group


def _norm(new: Insert) -> nn.Module:
    if new.norm == "group":
        pairs = new.channels // 2 if new.channels % 2 == 0 else 1  # one value alone has no variance
        return nn.GroupNorm(math.gcd(MAX_GROUPS, pairs), new.channels)
    return BATCH_NORM.classes[max(len(new.kernel), 1) - 1](new.channels)


def _activation(activation: Activation, parametric: bool, channels: int) -> nn.Module:
    if activation.kwargs.get("num_parameters", 1) > 1:  # one slope per channel
        activation = replace(activation, kwargs={**activation.kwargs, "num_parameters": channels})
    module = activation.module()
    return ParametricActivation(module) if parametric else module


def fill(tensor: Tensor, value: float) -> None:
    """Fill a tensor with one value."""
    with torch.no_grad():
        tensor.fill_(value)
