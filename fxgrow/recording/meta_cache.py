"""Cache of meta-kernel results, which depend on shapes, strides and dtypes alone, torch's default one among them.

A network repeats itself, and each of its runs repeats the one before. PyTorch's own meta kernels are Python for
some operators (a batch norm takes a millisecond); a second call with the same arguments takes a few microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..base.torch_private import is_meta

META = torch.device("meta")
NEW, IN_PLACE, ELSE = "new tensors", "its first argument, written to", ""
MOST = 16384  # results that are remembered

Given = Tensor | int | None
_Like = tuple[torch.Size, tuple[int, ...], torch.dtype]  # a tensor: all but its memory

_made: dict[tuple[Any, ...], Any] = {}  # of calls (a cache): what they gave


def on_meta(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], given: Sequence[Given], others: str) -> Any:
    """What `op(*args, **kwargs)` gives on meta tensors.

    Args:
        op: The overload.
        args: Its arguments by position.
        kwargs: Its arguments by name.
        given: The tensors among them in order; before those of a list, how many these are.
        others: All arguments that are no tensors, with their places, in words.
    """
    makes, contracts = _facts(op)
    key = _key(op, given, others) if makes else None
    if key is None:
        return _run(op, args, kwargs, contracts)
    made = _made.get(key)
    if made is None:
        out = _run(op, args, kwargs, contracts)
        if len(_made) >= MOST:
            _made.clear()
        made = _made[key] = _remembered(out) if makes == NEW else key[3] == _like(args[0])
        if makes == IN_PLACE:
            return args[0] if made else out
    elif makes == IN_PLACE:
        return args[0] if made else op(*args, **kwargs)
    kind, several = made  # the first time, too: unsafe_split gives views, and says that it does not
    return (
        _new(*several) if kind is Tensor else kind([_new(*like) if type(like) is tuple else like for like in several])
    )


def _key(op: Any, given: Sequence[Given], others: str) -> tuple[Any, ...] | None:
    """What the result of a call depends on; None where not all of that is seen here."""
    key: list[Any] = [op, others, torch.get_default_dtype()]  # of a quotient of integers, for instance
    for value in given:
        if value is None or isinstance(value, int):
            key.append(value)
        elif not is_meta(value) or value.dtype.is_complex or value.layout is not torch.strided:
            return None
        else:
            key.append(_like(value))
    return tuple(key)


def _like(tensor: Tensor) -> _Like:
    return tensor.shape, tensor.stride(), tensor.dtype


def _new(shape: torch.Size, stride: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty_strided(shape, stride, dtype=dtype, device=META)


def _remembered(out: Any) -> tuple[type, Any]:
    """One tensor, or a tuple or list of tensors and other things."""
    if isinstance(out, Tensor):
        return Tensor, _like(out)
    return type(out), [_like(o) if isinstance(o, Tensor) else o for o in out]


@cache
def _facts(op: Any) -> tuple[str, bool]:
    """What an operator returns, as `makes` says, and whether it contracts tensors, which have to be of one kind."""
    return makes(op), op._overloadpacket.__name__ in _CONTRACTIONS


def makes(op: Any) -> str:
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


_CONTRACTIONS = frozenset(("convolution", "mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot"))


def _run(op: Any, args: Sequence[Any], kwargs: Mapping[str, Any], contracts: bool) -> Any:
    """Call an operator; real ones refuse to multiply integers or complex numbers with floats, meta ones do it.

    Raises:
        RuntimeError: Such kinds meet.
    """
    if contracts:
        dtypes = [a.dtype for a in args if isinstance(a, Tensor)]
        if len({(d.is_floating_point, d.is_complex) for d in dtypes}) > 1:
            expected = next((d for d in dtypes if d.is_floating_point), dtypes[-1])
            given = next(d for d in dtypes if d.is_floating_point != expected.is_floating_point)
            raise RuntimeError(f"{op} is given {given} where the model takes {expected}")
    return op(*args, **kwargs)
