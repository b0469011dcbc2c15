"""Calls on the meta device, remembered: what comes out depends on shapes, strides and dtypes alone.

A network repeats itself, and each of its runs repeats the one before. PyTorch's own meta kernels are Python for
some operators (a batch norm takes a millisecond); a second call with the same arguments takes a few microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

META = torch.device("meta")


def on_meta(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What `op(*args, **kwargs)` gives on meta tensors."""
    makes = _makes(op)
    if not makes:
        return op(*args, **kwargs)
    try:
        key = (op, tuple([_key(a) for a in args]), tuple([(name, _key(a)) for name, a in kwargs.items()]))
        if makes == IN_PLACE:
            return args[0] if _keeps_shape(*key) else op(*args, **kwargs)
        made = _made(*key)
    except TypeError:  # an argument that cannot be a key
        return _one_kind(op, args)(*args, **kwargs)
    if type(made) is _Made:
        return made.new()
    return type(made)([m.new() if type(m) is _Made else m for m in made]) if isinstance(made, list | tuple) else made


NEW, IN_PLACE, ELSE = "new tensors", "its first argument, written to", ""


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
    given = [_argument(a) for a in args]
    out = _one_kind(op, given)(*given, **{key: _argument(a) for key, a in kwargs})
    if isinstance(out, Tensor):
        return _Made(out)
    if isinstance(out, list | tuple):
        return type(out)([_Made(o) if isinstance(o, Tensor) else o for o in out])
    return out


_CONTRACTIONS = frozenset(("convolution", "mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot"))


def _one_kind(op: Any, args: Sequence[Any]) -> Any:
    """The operator; real ones refuse to multiply integers or complex numbers with floats, meta ones do it.

    Raises:
        RuntimeError: Such kinds meet.
    """
    if op._overloadpacket.__name__ in _CONTRACTIONS:
        dtypes = [a.dtype for a in args if isinstance(a, Tensor)]
        if len({(d.is_floating_point, d.is_complex) for d in dtypes}) > 1:
            expected = next((d for d in dtypes if d.is_floating_point), dtypes[-1])
            given = next(d for d in dtypes if d.is_floating_point != expected.is_floating_point)
            raise RuntimeError(f"{op} is given {given} where the model takes {expected}")
    return op


def _argument(key: Any) -> Any:
    if isinstance(key, _Given):
        return key.new()
    kind, *rest = key
    return kind([_argument(a) for a in rest]) if kind is list or kind is tuple else rest[0]


@lru_cache(maxsize=16384)
def _keeps_shape(op: Any, args: tuple[Any, ...], kwargs: tuple[tuple[str, Any], ...]) -> bool:
    """Whether a call in place goes through, and leaves its target in its shape."""
    target, *others = [_argument(a) for a in args]
    before = (target.shape, target.stride(), target.dtype)
    op(target, *others, **{key: _argument(a) for key, a in kwargs})
    return before == (target.shape, target.stride(), target.dtype)


@cache
def _makes(op: Any) -> str:
    """What an operator returns: new tensors, or its first argument, which alone it writes to, or something else."""
    schema = op._schema
    if not schema.returns or any(str(r.type) not in ("Tensor", "List[Tensor]", "Tensor[]") for r in schema.returns):
        return ELSE
    written = [i for i, a in enumerate(schema.arguments) if a.alias_info is not None]
    if not schema.is_mutable and not written and all(r.alias_info is None for r in schema.returns):
        return NEW
    in_place = (
        written == [0] and schema.name.endswith("_") and len(schema.returns) == 1 and not schema.name.endswith("__")
    )
    return IN_PLACE if schema.is_mutable and in_place else ELSE
