"""Calls on the meta device, remembered: what comes out depends on shapes, strides and dtypes alone.

A network repeats itself, and each of its runs repeats the one before. PyTorch's own meta kernels are Python for
some operators (a batch norm takes a millisecond); a second call with the same arguments takes a few microseconds.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

META = torch.device("meta")


def on_meta(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What `op(*args, **kwargs)` gives on meta tensors."""
    if not _makes_new(op):
        return op(*args, **kwargs)
    try:
        made = _made(op, tuple([_key(a) for a in args]), tuple([(key, _key(a)) for key, a in kwargs.items()]))
    except TypeError:  # an argument that cannot be a key
        return op(*args, **kwargs)
    if type(made) is _Made:
        return made.new()
    return type(made)([m.new() if type(m) is _Made else m for m in made]) if isinstance(made, list | tuple) else made


class _Made:
    """A result: everything about it but its memory."""

    __slots__ = ("dtype", "shape", "stride")

    def __init__(self, tensor: Tensor) -> None:
        self.shape, self.stride, self.dtype = tensor.shape, tensor.stride(), tensor.dtype

    def new(self) -> Tensor:
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=META)


class _Given:
    """A tensor argument, equal to all with the same shape, strides and dtype."""

    __slots__ = ("key",)

    def __init__(self, tensor: Tensor) -> None:
        self.key = (tensor.shape, tensor.stride(), tensor.dtype)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Given) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def new(self) -> Tensor:
        shape, stride, dtype = self.key
        return torch.empty_strided(shape, stride, dtype=dtype, device=META)


def _key(argument: Any) -> Any:
    kind = type(argument)
    if isinstance(argument, Tensor):
        if argument.device.type != "meta" or argument.is_complex() or argument.layout != torch.strided:
            raise TypeError
        return _Given(argument)
    if kind is list or kind is tuple:
        return (kind, *[_key(a) for a in argument])
    return (kind, argument)


@lru_cache(maxsize=16384)
def _made(op: Any, args: tuple[Any, ...], kwargs: tuple[tuple[str, Any], ...]) -> Any:
    out = op(*[_argument(a) for a in args], **{key: _argument(a) for key, a in kwargs})
    if isinstance(out, Tensor):
        return _Made(out)
    if isinstance(out, list | tuple):
        return type(out)([_Made(o) if isinstance(o, Tensor) else o for o in out])
    return out


def _argument(key: Any) -> Any:
    if isinstance(key, _Given):
        return key.new()
    kind, *rest = key
    return kind([_argument(a) for a in rest]) if kind is list or kind is tuple else rest[0]


@cache
def _makes_new(op: Any) -> bool:
    """Whether all results are new tensors: no view, nothing in place, and nothing read from the numbers."""
    schema = op._schema
    return (
        not schema.is_mutable
        and bool(schema.returns)
        and all(r.alias_info is None and str(r.type) in ("Tensor", "List[Tensor]", "Tensor[]") for r in schema.returns)
    )
