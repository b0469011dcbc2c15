"""Module trees of our own: copies that share, swap or shed their tensors, and random states that stay."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .errors import TraceError


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, tied ones under their first name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def plain_tensors(model: nn.Module) -> Iterator[Tensor]:
    """The tensors that are plain attributes of modules, neither parameters nor buffers."""
    for module in model.modules():
        yield from (v for v in vars(module).values() if isinstance(v, Tensor))


def clone(model: nn.Module, replace: Mapping[int, Any] | None = None) -> nn.Module:
    """A deep copy that shares parameters and buffers, or has `replace[id(tensor)]` in the place of one.

    Raises:
        TraceError: Some attribute of the model cannot be copied.
    """
    memo: dict[int, Any] = {id(t): t.detach().clone() for t in plain_tensors(model)}
    memo.update({id(t): t for t in named_tensors(model).values()})
    memo.update(replace or {})
    try:
        return copy.deepcopy(model, memo)
    except (TypeError, RuntimeError, copy.Error) as error:
        raise TraceError(f"{type(model).__name__} cannot be copied: {error}") from error


def replace_tensors(root: nn.Module, new: Callable[[Tensor], Tensor]) -> None:
    """Put `new(tensor)` in the place of each parameter and buffer of a tree of our own; ties stay."""
    replaced = {id(tensor): (tensor, new(tensor)) for tensor in named_tensors(root).values()}
    for module in root.modules():
        tables: tuple[dict[str, Any], dict[str, Any]] = (module._parameters, module._buffers)
        for table in tables:
            table.update({name: replaced[id(tensor)][1] for name, tensor in table.items() if tensor is not None})


def to_meta(root: nn.Module) -> None:
    """Swap every parameter and buffer of a tree of our own for its like on the meta device."""
    replace_tensors(root, _meta_like)


def _meta_like(tensor: Tensor) -> Tensor:
    meta = tensor.detach() if tensor.device.type == "meta" else tensor.detach().to("meta")
    return nn.Parameter(meta, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else meta


@contextmanager
def rng_preserved() -> Iterator[None]:
    """Whatever runs inside, the global random states are afterwards what they were."""
    numpy = sys.modules.get("numpy")
    python_state, numpy_state = random.getstate(), numpy.random.get_state() if numpy else None
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python_state)
            if numpy is not None:
                numpy.random.set_state(numpy_state)
