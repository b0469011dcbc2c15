"""Calls as the user's code spells them, and the sizes that each spelling states.

There is one function per spelling: ``x.view(-1, 320)``, ``split([32, 32])``, ``x[:, :16]``. It gives where among the
arguments a size stands, and of which layout it is the size.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from ..base.structures import ArgumentPath
from ..layouts.layout import Layout, measure
from ..model.layer_kinds import RMS_NORM
from ..ops import Value

PART = "part"  # first step of the path of one of several equal parts: it has no literal, until parts differ


@dataclass(frozen=True, slots=True)
class Spelling:
    """A call as the user's code spells it, where no graph has a node for it."""

    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    name: str = ""
    op: str = "call_function"


Found = (
    tuple[ArgumentPath, Layout]
    | tuple[ArgumentPath, Layout, tuple[int, int]]
    | tuple[ArgumentPath, Layout, tuple[int, int], int]
)
Call = fx.Node | Spelling
Finder = Callable[[Call, Value, Any], Iterator[Found]]


def argument(node: Call, position: int, name: str) -> tuple[ArgumentPath, Any]:
    """Where an argument stands, and what it is."""
    if len(node.args) > position:
        return ("args", position), node.args[position]
    return ("kwargs", name), node.kwargs.get(name)


def read(node: Call, path: ArgumentPath) -> Any:
    """The literal at a path of a node's arguments."""
    value: Any = node.args if path[0] == "args" else node.kwargs
    for step in path[1:]:
        value = getattr(value, str(step)) if isinstance(value, slice) else value[step]
    return value


def source_of(call: Call) -> Any:
    """The first argument: the tensor that a call is about."""
    return call.args[0] if call.args else call.kwargs.get("input")


FINDERS: dict[Any, Finder] = {}


def _finder(*targets: Any) -> Callable[[Finder], Finder]:
    def register(function: Finder) -> Finder:
        for target in targets:
            if target in FINDERS:
                raise ValueError(f"{target} has a finder already")
            FINDERS[target] = function
        return function

    return register


def is_found(target: Any, out: Any) -> bool:
    """Whether a finder can tell what sizes are of: nothing is known of the views of a constant that was written to."""
    parts = out if isinstance(out, list | tuple) else [out]
    return target in (operator.getitem, operator.setitem) or all(isinstance(part, Value) for part in parts)


# -- views ----------------------------------------------------------------------------------------

RESHAPES = ("view", "reshape", "expand", torch.reshape)
UNFLATTENS = ("unflatten", torch.unflatten)
VIEWS = (*RESHAPES, *UNFLATTENS)


def sizes_given(node: Call, start: int) -> list[tuple[ArgumentPath, Any]]:
    """The sizes given to a view, as varargs or as one sequence."""
    args = node.args[start:]
    if args and isinstance(args[0], list | tuple):
        return [(("args", start, i), v) for i, v in enumerate(args[0])]
    if args:
        return [(("args", start + i), v) for i, v in enumerate(args)]
    for name in ("size", "shape", "sizes"):
        if isinstance(node.kwargs.get(name), list | tuple):
            return [(("kwargs", name, i), v) for i, v in enumerate(node.kwargs[name])]  # type: ignore[arg-type]
    return []


@_finder(*RESHAPES)
def _reshape(node: Call, x: Value, out: Value) -> Iterator[Found]:
    yield from stated_shape(sizes_given(node, 1), out)


def stated_shape(sizes: list[tuple[ArgumentPath, Any]], out: Value) -> Iterator[Found]:
    """The literals among the sizes of a shape, where they are the shape of the result."""
    if len(sizes) == len(out.layouts):
        for (path, value), layout in zip(sizes, out.layouts, strict=True):
            if isinstance(value, int) and value >= 0:
                yield path, layout


@_finder(*UNFLATTENS)
def _unflatten(node: Call, x: Value, out: Value) -> Iterator[Found]:
    dim = argument(node, 1, "dim")[1]
    if isinstance(dim, int):
        at = dim % len(x.layouts)
        for (path, value), layout in zip(sizes_given(node, 2), out.layouts[at:], strict=False):
            if isinstance(value, int) and value >= 0:
                yield path, layout


@_finder("repeat_interleave", torch.repeat_interleave)
def _repeat_interleave(node: Call, x: Value, out: Value) -> Iterator[Found]:
    """The copies of a key head that all query heads share; of more heads, they are a part of the dimension."""
    path, times = argument(node, 1, "repeats")
    dim = argument(node, 2, "dim")[1]
    if isinstance(times, int) and isinstance(dim, int) and x.shape[dim] == 1:
        yield path, out.layouts[dim]


# -- literals of norms -------------------------------------------------------------------------------


@_finder(*RMS_NORM.functions)  # PyTorch takes it apart on the meta device, so no rule declares its shape
def _rms_norm(node: Call, x: Value, out: Value) -> Iterator[Found]:
    path, shape = argument(node, RMS_NORM.arguments["normalized_shape"], "normalized_shape")
    if isinstance(shape, list | tuple):
        for i, (length, layout) in enumerate(zip(shape, x.layouts[-len(shape) :], strict=True)):
            if isinstance(length, int):
                yield (*path, i), layout


# -- literals of parts -------------------------------------------------------------------------------


@_finder("split", torch.split, "split_with_sizes")
def _split(node: Call, x: Value, out: Any) -> Iterator[Found]:
    path, sizes = argument(node, 1, "split_size_or_sections")
    if sizes is None:
        path, sizes = argument(node, 1, "split_size")
    dim = argument(node, 2, "dim")[1] or 0
    if isinstance(sizes, list | tuple):
        for i, (value, part) in enumerate(zip(sizes, out, strict=True)):
            if isinstance(value, int):
                yield (*path, i), part.layouts[dim]
    elif isinstance(sizes, int):
        if sizes == measure(out[0].layouts[dim], lambda var: var.size):  # else the dimension is shorter than a part
            yield path, out[0].layouts[dim]
        yield from _parts(out, dim)


@_finder("chunk", torch.chunk)
def _chunk(node: Call, x: Value, out: Any) -> Iterator[Found]:
    dim = argument(node, 2, "dim")[1] or 0
    if isinstance(dim, int):
        yield from _parts(out, dim)


def _parts(out: Sequence[Value], dim: int) -> Iterator[Found]:
    for i, part in enumerate(out):
        yield (PART, i), part.layouts[dim]


@_finder("narrow", torch.narrow)
def _narrow(node: Call, x: Value, out: Value) -> Iterator[Found]:
    dim = argument(node, 1, "dim")[1]
    start_path, start = argument(node, 2, "start")
    length_path, length = argument(node, 3, "length")
    if isinstance(start, int) and isinstance(dim, int):
        yield start_path, x.layouts[dim], (0, start)
        if isinstance(length, int):
            yield length_path, out.layouts[dim]


@_finder(operator.getitem, operator.setitem)
def _getitem(node: Call, x: Value, out: Any) -> Iterator[Found]:
    index = node.args[1]
    entries = index if isinstance(index, tuple) else (index,)
    ahead = sum(1 for e in entries if e is not None and e is not Ellipsis)
    dim = 0
    for number, entry in enumerate(entries):
        if entry is Ellipsis:
            dim += len(x.layouts) - ahead
            continue
        if entry is None:
            continue
        if isinstance(entry, slice) and entry.step in (None, 1):
            length = x.shape[dim]
            path: ArgumentPath = ("args", 1, number) if isinstance(index, tuple) else ("args", 1)
            for name, bound in (("start", entry.start), ("stop", entry.stop)):
                if isinstance(bound, int) and 0 < abs(bound) <= length:
                    span = (0, bound) if bound > 0 else (length + bound, length)
                    yield (*path, name), x.layouts[dim], span, 1 if bound > 0 else -1
        dim += 1
