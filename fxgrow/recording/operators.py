"""What a tape has to know of overloads of ATen: what they write, draw and decide, and which compute the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..errors import TraceError

NUMBER = torch.ops.aten._local_scalar_dense.default
NO_MEMORY = torch.ops.aten._efficientzerotensor.default  # zeros of forward-mode AD; kernels crash on them
SELECT = torch.ops.aten.select.int
REVERSED = {  # python reflects `constant > proxy` to `proxy < constant`
    ("aten::gt", "Tensor"): ("aten::lt", "Tensor"),
    ("aten::ge", "Tensor"): ("aten::le", "Tensor"),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What an overload is, as far as a tape has to know.

    Attributes:
        name: Its name, without regard to whether it writes in place.
        mutable: Whether it writes to an argument.
        random: Whether its result is no function of its arguments: drawn, or not initialised.
        has_device: Whether it takes the device of its result.
        plain: The arguments that hold neither tensors nor generators, by position and by name.
        positions: Of all others.
        names: Of all others.
    """

    name: tuple[str, str]
    mutable: bool
    random: bool
    has_device: bool
    plain: frozenset[int | str]
    positions: tuple[int, ...]
    names: tuple[str, ...]

    def tensors(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
        """The tensors among the arguments of a call, those in lists too."""
        found: list[Tensor] = []
        given = [args[i] for i in self.positions if i < len(args)]
        if kwargs:
            given += [kwargs[name] for name in self.names if name in kwargs]
        for value in given:
            if isinstance(value, Tensor):
                found.append(value)
            elif isinstance(value, (list, tuple)):
                found += [entry for entry in value if isinstance(entry, Tensor)]
        return found


@cache
def kind_of(op: Any) -> Kind:
    """What an overload is."""
    schema = op._schema
    others = [(i, a.name) for i, a in enumerate(schema.arguments) if _PLAIN.fullmatch(str(a.type)) is None]
    positions, names = tuple([i for i, _ in others]), tuple([name for _, name in others])
    everything = {*range(len(schema.arguments)), *(a.name for a in schema.arguments)}
    return Kind(
        _plain_name(op),
        bool(schema.is_mutable),
        draws(op) or "empty" in schema.name,
        any(argument.name == "device" for argument in schema.arguments),
        frozenset(everything - {*positions, *names}),
        positions,
        names,
    )


_PLAIN = re.compile(r"((Optional|List)\[)*(int|bool|number|float|complex|str|Device)\]*")  # types of arguments


@cache
def draws(op: Any) -> bool:
    """Whether an overload draws random numbers."""
    return torch.Tag.nondeterministic_seeded in op.tags or "bernoulli" in op._schema.name


@cache
def decides(op: Any) -> bool:
    """Whether the size of a result, or a plain number, depends on the numbers in tensors."""
    return torch.Tag.dynamic_output_shape in op.tags or op is NUMBER or op.namespace not in ("aten", "prims")


def same_operator(a: Any, b: Any) -> bool:
    """Whether two overloads compute the same; FX writes ``x += y`` as ``x = x + y``, which the values tell apart."""
    return a is b or _plain_name(a) == _plain_name(b)


@cache
def _plain_name(op: Any) -> tuple[str, str]:
    name: str = op._schema.name
    if name == "aten::_unsafe_view":  # what reshape() makes of a copy
        return "aten::view", ""
    if name == "aten::split_with_sizes":  # what chunk() becomes once its parts differ
        return "aten::split", "Tensor"
    return (name[:-1] if name.endswith("_") else name), op._schema.overload_name


def refused(op: Any, place: str) -> TraceError:
    """Why an operator that is given functions, as `torch.cond` is, is refused: no rule sees what is in them."""
    return TraceError(
        f"torch's {str(op).rpartition('.')[2]} at {place} is given functions, and which of them run, how often, "
        "depends on numbers in tensors; write an `if` or a loop of Python in its place, of which the path of "
        "the example inputs is followed, or compute all branches and choose by torch.where"
    )


def results_of(out: Any) -> tuple[Any, ...]:
    """What an operator returns, as a tuple."""
    if type(out) is Tensor:
        return (out,)
    return () if out is None else tuple(out) if isinstance(out, (list, tuple)) else (out,)


def tensors_in(argument: Any) -> Iterator[Tensor]:
    """The tensors of one argument of a call."""
    if isinstance(argument, Tensor):
        yield argument
    elif isinstance(argument, list | tuple):
        yield from (a for a in argument if isinstance(a, Tensor))
