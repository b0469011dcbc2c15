"""A tape: every ATen call of a run on meta tensors, with who feeds whom.

Two runs with equal tapes compute the same function, because a tape holds the operators, the flow of
values and every constant. That is how a trace is checked against the model it came from, and how a
student is checked against the shapes that its plan predicts, without computing a single number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Shape = tuple[int, ...]


Key = int | str | tuple[int | str, int]  # a value's number or name; with a version once an alias overwrote it


@dataclass(frozen=True, slots=True)
class Call:
    """One ATen call: the operator, the values that go in, its constants by argument, the shapes that come out."""

    op: Any
    inputs: tuple[Key, ...]
    constants: tuple[tuple[int | str, Any], ...]
    shapes: tuple[Shape, ...]
    site: str = ""


class Tape(TorchDispatchMode):
    """Runs everything on the meta device and writes down each call.

    Args:
        names: The tensors that have a name of their own (parameters and buffers, on meta).
    """

    def __init__(self, names: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.site = ""
        self.held: list[Tensor] = []  # keeps ids unique while the tape lives
        self._value_of: dict[int, int | str] = {id(tensor): name for name, tensor in names.items()}
        self._meta_of: dict[int, Tensor] = {}
        self._written: dict[int, int] = {}  # storage: how often it was written in place
        self._read_at: dict[int, int] = {}  # tensor: that number when its value was made
        self._count = 0

    def value_of(self, tensor: Tensor) -> int | str:
        """The number (or name) of the value that a tensor holds; a stranger is a new constant."""
        value = self._value_of.get(id(tensor))
        return self._new_value(tensor) if value is None else value

    def _new_value(self, tensor: Tensor) -> int:
        self.held.append(tensor)
        self._count += 1
        self._value_of[id(tensor)] = self._count
        self._read_at[id(tensor)] = self._written.get(_storage(tensor), 0)
        return self._count

    def _key(self, tensor: Tensor) -> Key:
        """The value as it reads now: another one if its memory was written through an alias."""
        value = self.value_of(tensor)
        written = self._written.get(_storage(tensor), 0) if self._written else 0
        return value if written == self._read_at.get(id(tensor), 0) else (value, written)

    def __torch_dispatch__(
        self, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args = tuple([self._to_meta(a) for a in args])
        kwargs = {key: self._to_meta(a) for key, a in kwargs.items()} if kwargs else {}
        if has_device(op):
            kwargs["device"] = META
        inputs: list[Key] = []
        constants: list[tuple[int | str, Any]] = []
        for key, value in (*enumerate(args), *kwargs.items()):
            if isinstance(value, Tensor):
                inputs.append(self._key(value))
            elif isinstance(value, list | tuple) and any(isinstance(v, Tensor) for v in value):
                inputs.extend("" if v is None else self._key(v) for v in value)
            else:
                constants.append((key, tuple(value) if isinstance(value, list) else value))
        out = op(*args, **kwargs)
        outs = (out,) if isinstance(out, Tensor) else tuple(out) if isinstance(out, list | tuple) else ()
        shapes = tuple([tuple(o.shape) if isinstance(o, Tensor) else () for o in outs])
        self.calls.append(Call(op, tuple(inputs), tuple(constants), shapes, self.site))
        if args and out is args[0] and op._schema.is_mutable:  # in place: what any alias holds is another value now
            self._written[_storage(out)] = self._written.get(_storage(out), 0) + 1
            read = self.reading(op, args, kwargs)
            self._new_value(out)
        else:
            read = self.reading(op, args, kwargs)
        for o in outs:
            if isinstance(o, Tensor):
                self.value_of(o)
        self.observe(op, read, outs)
        return out

    def reading(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a subclass takes from the arguments, before results get their numbers."""

    def observe(self, op: Any, read: Any, outs: tuple[Any, ...]) -> None:
        """What a subclass does with a call, given what it read; `outs` are the results on the meta device."""

    def _to_meta(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            if value.device.type == "meta":
                return value
            meta = self._meta_of.get(id(value))
            if meta is None:
                meta = self._meta_of[id(value)] = value.detach().to("meta")
                self.held.append(value)
            return meta
        if isinstance(value, list | tuple) and any(isinstance(v, Tensor) for v in value):
            return [self._to_meta(v) for v in value]
        return value


META = torch.device("meta")


@lru_cache(maxsize=None)
def has_device(op: Any) -> bool:
    """Whether an ATen overload takes the device of its result."""
    return any(argument.name == "device" for argument in op._schema.arguments)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def same_operator(a: Any, b: Any) -> bool:
    """Whether two overloads compute the same; FX writes ``x += y`` as ``x = x + y``, which the values tell apart."""
    return a is b or _plain_name(a) == _plain_name(b)


@lru_cache(maxsize=None)
def _plain_name(op: Any) -> tuple[str, str]:
    name: str = op._schema.name
    if name == "aten::split_with_sizes":  # what chunk() becomes once its parts differ
        return "aten::split", "Tensor"
    return (name[:-1] if name.endswith("_") else name), op._schema.overload_name


def first_difference(ours: list[Call], theirs: list[Call]) -> str | None:
    """Where two tapes part, in words; None where they are equal.

    Args:
        ours: The tape to be judged.
        theirs: The tape that is right.
    """
    for a, b in zip(ours, theirs, strict=False):
        if not same_operator(a.op, b.op) or a.inputs != b.inputs or a.shapes != b.shapes or not _same_constants(a, b):
            return f"{a.op} {a.shapes} at {a.site or '?'} where the model runs {b.op} {b.shapes}"
    if len(ours) != len(theirs):
        return f"{len(ours)} operations where the model runs {len(theirs)}"
    return None


def _same_constants(a: Call, b: Call) -> bool:
    return a.constants == b.constants or repr(a.constants) == repr(b.constants)  # repr: nan equals nan
