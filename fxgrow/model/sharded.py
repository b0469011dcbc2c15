"""Models whose parameters are parts of larger tensors: DTensors, as `fully_shard` makes them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..base.loaded import dtensors, fsdp
from ..errors import TraceError
from .copies import DEVICE, clone_shared, named_tensors
from .walk import marks_of, modules


def is_dtensor(tensor: object) -> bool:
    """Whether a tensor is one part of a larger one, on a mesh of devices."""
    known = dtensors()
    return known is not None and isinstance(tensor, known.DTensor)


def is_sharded(model: object) -> bool:
    """Whether a model has a parameter that is a DTensor. Parameters that `fully_shard` gathered are given back."""
    if dtensors() is None or not isinstance(model, nn.Module):
        return False
    try:
        if fsdp() is not None:
            reshard(model)
        tables = [table for module in modules(model) for table in (module._parameters, module._buffers) if table]
        return any(is_dtensor(tensor) for table in tables for tensor in table.values())
    except (AttributeError, TypeError):  # no tree of modules: `check_supported` says what is wrong with it
        return False


def reshard(model: nn.Module) -> None:
    """Let modules of `fully_shard` hold their parts again, where a forward pass left them whole."""
    for module in modules(model):
        if is_fsdp(module):
            module.reshard()  # type: ignore[operator]


def is_fsdp(module: nn.Module) -> bool:
    """Whether a module was given to `fully_shard`."""
    known = fsdp()
    return known is not None and isinstance(module, known.FSDPModule)


def whole(model: nn.Module) -> nn.Module:
    """A copy of a sharded model as it was before it was sharded: its own classes, and parameters on the meta device.

    Buffers are shared with the model, and have their data.

    Raises:
        TraceError: It cannot be copied, or a buffer is a DTensor.
    """
    twins: dict[int, Any] = {}
    device = None
    for name, tensor in named_tensors(model).items():
        if is_dtensor(tensor) and not isinstance(tensor, nn.Parameter):
            raise TraceError(f"the buffer {name!r} is a DTensor; only parameters that are parts of larger ones grow")
        twins[id(tensor)] = _on_meta(tensor) if isinstance(tensor, nn.Parameter) else tensor
        device = device or tensor.device
    copied = clone_shared(model, twins)
    copied.__dict__[DEVICE] = device
    return copied


def _on_meta(parameter: nn.Parameter) -> nn.Parameter:
    data: Tensor = torch.empty(parameter.shape, dtype=parameter.dtype, device="meta")
    twin = nn.Parameter(data, parameter.requires_grad)
    twin.__dict__.update(marks_of(parameter))
    return twin
