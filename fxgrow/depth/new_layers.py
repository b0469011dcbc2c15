"""The modules of a new layer, initialised so that inserting it does not change the function."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..model.activations import Activation, ParametricActivation
from ..model.layer_kinds import BATCH_NORM
from ..plans.changes import Insert
from .initial import Constant, Identity, Start, Uniform

MAX_GROUPS = 32  # of a new group norm
ROLES = ("weight", "bias")


class Residual(nn.Sequential):
    """x + f(x), with f the sequence of its modules.

    Graphs call the modules and add x themselves; `forward` is for code that calls the container.
    """

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + super().forward(x)
        return result


def build_new_layer(new: Insert, seed: int, device: torch.device, dtype: torch.dtype) -> nn.Sequential:
    """The modules of a new layer in the order in which they are called.

    Args:
        new: The layer's entry in the plan.
        seed: The seed for random weights.
        device: The device of its parameters.
        dtype: The dtype of its parameters.

    Returns:
        A sequence of modules; a `Residual` one if `new.kind` is "residual".
    """
    parts: dict[str, nn.Module] = {"linear" if new.layer == "Linear" else "conv": _layer(new, device, dtype)}
    parts.update(small_modules(new, device, dtype))
    if new.kind == "residual":
        parts["last"] = _layer(new, device, dtype)
    block = (Residual if new.kind == "residual" else nn.Sequential)(OrderedDict(parts))
    if device.type != "meta":
        tensors = dict(block.named_parameters())
        with torch.no_grad():
            for key, start in starts(new).items():
                start.write(tensors[key], tuple(tensors[key].shape), 0, seed)
    return block


def small_modules(new: Insert, device: torch.device, dtype: torch.dtype) -> dict[str, nn.Module]:
    """The modules of a new layer that have one value a channel or less: its norm and activation."""
    parts: dict[str, Any] = {}
    if new.norm:
        parts["norm"] = _norm(new).to(device, dtype)
    if new.activation is not None:
        parts["act"] = _activation(new.activation, new.parametric, new.channels).to(device, dtype)
    if new.norm == "batch" and new.kind == "identity":  # the inverse of its running variance of 1
        nn.init.constant_(parts["norm"].weight, math.sqrt(1 + parts["norm"].eps))
    return parts


def starts(new: Insert) -> dict[str, Start]:
    """What the weights and biases of a new layer's linear or convolution layers begin with, by their names in it.

    An "identity" layer returns its input, a "residual" one adds 0 to it, and a "random" one is as `torch.nn` draws it.
    """
    first = "linear" if new.layer == "Linear" else "conv"
    if new.kind == "identity":
        return {f"{first}.weight": Identity(), f"{first}.bias": Constant(0)}
    fan_in = math.prod((new.channels // new.groups, *new.kernel))
    drawn: dict[str, Start] = {f"{first}.{key}": Uniform(f"{new.path}.{first}.{key}", fan_in) for key in ROLES}
    return drawn | ({f"last.{key}": Constant(0) for key in ROLES} if new.kind == "residual" else {})


def _layer(new: Insert, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A linear or convolution layer whose parameters are still to be written."""
    options: dict[str, Any] = {"device": device, "dtype": dtype}
    if new.layer == "Linear":
        return nn.utils.skip_init(nn.Linear, new.channels, new.channels, **options)
    even = any(size % 2 == 0 for size in new.kernel)
    options["padding"] = "same" if even else tuple(size // 2 for size in new.kernel)
    options["groups"] = new.groups
    return nn.utils.skip_init(getattr(nn, new.layer), new.channels, new.channels, new.kernel, **options)


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
