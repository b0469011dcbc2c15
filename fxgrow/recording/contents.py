"""Numbers that torch would put into a tensor on the meta device, where they would be lost without a call.

`x[:, [0, k]]` makes an index, `x.new_tensor([k])` a constant. C++ makes both on the device of `x`, below every dispatch
mode: on meta, two runs with other numbers could not be told apart. During a run these functions make their tensor on
the CPU, from where a tape takes it as a constant with a content. A deep copy becomes a call, too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..base.replacing import Target
from ..base.torch_private import is_meta

_make, _as_tensor = torch.tensor, torch.as_tensor
_INTEGERS = (torch.int8, torch.int16, torch.int32)


def _positions(index: Any) -> Any:
    """An index, with a tensor in place of each sequence of numbers."""
    if type(index) is tuple:
        return tuple([_position(entry) for entry in index])
    flat = isinstance(index, Sequence) and all(isinstance(entry, int) for entry in index)
    return _position(index) if flat else index


def _position(entry: Any) -> Any:
    is_array = type(entry).__module__ == "numpy" and getattr(entry, "ndim", 0) > 0
    if isinstance(entry, str | bytes) or not (is_array or isinstance(entry, Sequence)):
        return entry
    try:
        made = _make(entry, device="cpu")
    except Exception:  # noqa: BLE001 - torch says what is wrong with it
        return entry
    if made.dtype in _INTEGERS or not made.numel():
        return made.long()
    return made


def _indexing(base: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(base)
    def index(tensor: Tensor, at: Any, *value: Any) -> Any:
        return base(tensor, _positions(at) if is_meta(tensor) else at, *value)

    return index


def _new_tensor(base: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(base)
    def new_tensor(tensor: Tensor, data: Any, *, dtype: Any = None, device: Any = None, **more: Any) -> Tensor:
        if isinstance(data, Tensor) or not (is_meta(tensor) if device is None else _is_meta_device(device)):
            return base(tensor, data, dtype=dtype, device=device, **more)
        return _make(data, dtype=dtype or tensor.dtype, device="cpu", **more)

    return new_tensor


def _making(base: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(base)
    def make(data: Any, *args: Any, **options: Any) -> Tensor:
        if not isinstance(data, Tensor) and _is_meta_device(options.get("device")):
            options["device"] = "cpu"
        if base is _as_tensor and type(data).__name__ == "ndarray" and not args and not options:
            return torch.from_numpy(data)  # else a copy, as the stand-in for what shares the array's memory is on meta
        return base(data, *args, **options)

    make.original = base  # type: ignore[attr-defined]
    return make


def _deepcopy(base: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(base)
    def deepcopy(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
        if not is_meta(tensor) or id(tensor) in memo:
            return base(tensor, memo)
        copied = memo[id(tensor)] = tensor.detach().clone().requires_grad_(tensor.requires_grad)
        return copied

    return deepcopy


def _is_meta_device(device: Any) -> bool:
    return device is not None and not isinstance(device, int) and torch.device(device).type == "meta"


def original(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of torch, where one of this file is in its place."""
    return getattr(function, "original", function)


REPLACED: tuple[Target, ...] = (
    *((Tensor, name, _indexing(getattr(Tensor, name))) for name in ("__getitem__", "__setitem__")),
    (Tensor, "new_tensor", _new_tensor(Tensor.new_tensor)),
    (Tensor, "__deepcopy__", _deepcopy(Tensor.__deepcopy__)),
    *((torch, name, _making(getattr(torch, name))) for name in ("tensor", "as_tensor", "asarray")),
)  # (owner, name, what is there during a run)
