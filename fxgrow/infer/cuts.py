"""Where a call cuts a tensor at numbers: slices, splits and chunks."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

from torch import fx

Path = tuple[str | int, ...]
Cut = tuple[int, list[tuple[Path, Any]]]  # (dimension, the numbers that it is cut at, each with its place in the call)

SPLITS: dict[str, int] = {  # the name of a function or a method, and the dimension that it cuts unless it is told
    "split": 0, "split_with_sizes": 0, "split_with_sizes_copy": 0, "split_copy": 0, "tensor_split": 0, "chunk": 0,
    "unsafe_split": 0, "unsafe_split_with_sizes": 0, "unsafe_chunk": 0, "hsplit": 1, "vsplit": 0, "dsplit": 2,
}  # fmt: skip
_TENSOR = ("input", "self", "tensor")


def tensor_of(node: fx.Node) -> Any:
    """What a call may cut."""
    return node.args[0] if node.args else next((node.kwargs[name] for name in _TENSOR if name in node.kwargs), None)


def cuts(node: fx.Node, ndim: int | None = None) -> Iterator[Cut]:
    """The cuts of a call.

    Args:
        node: Any node.
        ndim: How many dimensions the tensor has that it may cut; None where that is not known, and dimensions are
            not right then.
    """
    if node.target is operator.getitem:
        yield from _slices(node, ndim or 0)
        return
    name = str(getattr(node.target, "__name__", node.target))
    if node.op not in ("call_function", "call_method") or name not in SPLITS:
        return
    given = {key: value for key, value in node.kwargs.items() if key not in (*_TENSOR, "dim")}
    at: list[tuple[Path, Any]] = [(("kwargs", key), value) for key, value in given.items()]
    first = 0 if node.kwargs.keys() & {*_TENSOR} else 1  # where the numbers are by position
    at += [(("args", first), value) for value in node.args[first : first + 1] if not given]
    dim = node.kwargs.get("dim", node.args[first + 1] if len(node.args) > first + 1 else SPLITS[name])
    if isinstance(dim, int) and (ndim is None or -ndim <= dim):
        yield min(dim, ndim - 1) if ndim else dim, [one for place in at for one in _entries(*place)]


def _entries(path: Path, numbers: Any) -> Iterator[tuple[Path, Any]]:
    if isinstance(numbers, list | tuple):
        yield from (((*path, i), number) for i, number in enumerate(numbers))
    else:
        yield path, numbers


def _slices(node: fx.Node, ndim: int) -> Iterator[Cut]:
    several = isinstance(node.args[1], tuple)
    entries: Sequence[Any] = node.args[1] if several else (node.args[1],)  # type: ignore[assignment]
    after = len([one for one in entries[entries.index(...) + 1 :] if one is not None]) if ... in entries else 0
    dim = 0
    for i, entry in enumerate(entries):
        dim = ndim - after if entry is ... else dim + (entry is not None)
        if isinstance(entry, slice):
            path: Path = ("args", 1, i) if several else ("args", 1)
            yield dim - 1, [((*path, end), getattr(entry, end)) for end in ("start", "stop")]
