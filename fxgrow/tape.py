"""A tape: every ATen call of a run on meta tensors, with who feeds whom.

Two runs with equal tapes compute the same function, because a tape holds the operators, the flow of
values and every constant. That is how a trace is checked against the model it came from, and how a
student is checked against the shapes that its plan predicts, without computing a single number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One ATen call: the operator, the values that go in, its constants by argument, the shapes that come out."""

    op: Any
    inputs: tuple[int | str, ...]
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

    def value_of(self, tensor: Tensor) -> int | str:
        """The number (or name) of the value that a tensor holds; a stranger is a new constant."""
        value = self._value_of.get(id(tensor))
        if value is None:
            value = self._value_of[id(tensor)] = len(self.held)
            self.held.append(tensor)
        return value

    def __torch_dispatch__(
        self, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args = tuple([self._to_meta(a) for a in args])
        kwargs = {key: self._to_meta(a) for key, a in kwargs.items()} if kwargs else {}
        if has_device(op):
            kwargs["device"] = META
        inputs: list[int | str] = []
        constants: list[tuple[int | str, Any]] = []
        for key, value in (*enumerate(args), *kwargs.items()):
            if isinstance(value, Tensor):
                inputs.append(self.value_of(value))
            elif isinstance(value, list | tuple) and any(isinstance(v, Tensor) for v in value):
                inputs.extend("" if v is None else self.value_of(v) for v in value)
            else:
                constants.append((key, tuple(value) if isinstance(value, list) else value))
        out = op(*args, **kwargs)
        outs = (out,) if isinstance(out, Tensor) else tuple(out) if isinstance(out, list | tuple) else ()
        shapes = tuple([tuple(o.shape) if isinstance(o, Tensor) else () for o in outs])
        self.calls.append(Call(op, tuple(inputs), tuple(constants), shapes, self.site))
        self.observe(op, args, kwargs, outs)
        for o in outs:
            if isinstance(o, Tensor):
                self.value_of(o)
        return out

    def observe(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outs: tuple[Any, ...]) -> None:
        """What a subclass does with a call; `outs` are its results on the meta device."""

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


def first_difference(
    ours: list[Call], theirs: list[Call], *, sized: Callable[[Any], tuple[int | str, ...]] | None = None
) -> str | None:
    """Where two tapes part, in words; None where they are equal.

    Args:
        ours: The tape to be judged.
        theirs: The tape that is right.
        sized: Arguments of an operator to leave out of the comparison.
    """
    for a, b in zip(ours, theirs, strict=False):
        if a.op is not b.op or a.inputs != b.inputs or a.shapes != b.shapes or not _same_constants(a, b):
            return f"{a.op} {a.shapes} at {a.site or '?'} where the model runs {b.op} {b.shapes}"
    if len(ours) != len(theirs):
        return f"{len(ours)} operations where the model runs {len(theirs)}"
    return None


def _same_constants(a: Call, b: Call) -> bool:
    return a.constants == b.constants or repr(a.constants) == repr(b.constants)  # repr: nan equals nan
