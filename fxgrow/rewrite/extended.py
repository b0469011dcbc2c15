"""What a teacher's tensor says as a whole, where new entries need it: one more entry in a dimension, and moments.

Sums are exact (`base.exact_sum`), so a tensor that is divided among processes says the same, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ..base.exact_sum import Reduce, alone, exact_mean
from ..base.magnitude import has_arithmetic
from .index_maps import IndexMap


@dataclass(frozen=True, slots=True)
class Extension:
    """One more entry at the end of a dimension, which new entries copy.

    Attributes:
        kind: The "mean" of the others, their mean "size" (absolute value), or "zero".
        gain: By what the others are multiplied before.
    """

    kind: Literal["mean", "size", "zero"]
    gain: float = 1.0


@dataclass(frozen=True, slots=True)
class Division:
    """How a tensor is divided among processes.

    Attributes:
        dim: The dimension that is.
        size: The size of all of it.
        reduce: The reduction of numbers over the processes.
    """

    dim: int
    size: int
    reduce: Reduce


@dataclass(frozen=True, slots=True)
class Entry:
    """One more entry of a tensor, apart from it.

    Attributes:
        dim: The dimension at whose end it is.
        size: The tensor's size there.
        values: Of size 1 there. In the dimensions before that are extended, it has their one more entry, too.
    """

    dim: int
    size: int
    values: Tensor

    def put(self, part: Tensor, maps: Mapping[int, IndexMap], place: tuple[int, int, int]) -> None:
        """Write what copies this entry into a block of the new tensor.

        Args:
            part: The block.
            maps: The index map of each dimension that grows.
            place: Along which dimension blocks are cut, and where this one starts and stops.
        """
        along, start, stop = place
        indices = {dim: known.there[start:stop] if dim == along else known.there for dim, known in maps.items()}
        at = torch.nonzero(indices.pop(self.dim) == self.size).flatten()
        if not len(at):
            return
        values = self.values
        if along not in maps:
            values = values.narrow(along, start, stop - start)
        for dim, index in indices.items():
            values = values.index_select(dim, index.clamp(max=values.shape[dim] - 1))
        shape = list(part.shape)
        shape[self.dim] = len(at)
        part.index_copy_(self.dim, at, values.expand(shape))


def entries(tensor: Tensor, extensions: Mapping[int, Extension]) -> tuple[Tensor, list[Entry]]:
    """A whole tensor and its one more entries, which are small beside it.

    Args:
        tensor: The teacher's.
        extensions: By dimension.

    Returns:
        The tensor, in new memory only where it is to be multiplied, and the entries, by dimension.
    """
    found: list[Entry] = []
    for dim in sorted(extensions):
        one = extensions[dim]
        tensor = _multiplied(tensor, one)
        found = [replace(each, values=_multiplied(each.values, one)) for each in found]
        size = tensor.shape[dim]
        values = _entry(tensor, dim, one, size, alone)
        for each in found:
            values = torch.cat([values, _entry(each.values, dim, one, size, alone)], each.dim)
        found.append(Entry(dim, size, values))
    return tensor, found


def extended(tensor: Tensor, extensions: Mapping[int, Extension], division: Division) -> tuple[Tensor, Tensor | None]:
    """A tensor with one more entry in some dimensions, and that of the divided dimension, which is no process's, apart.

    Args:
        tensor: The teacher's, or this process's part.
        extensions: By dimension.
        division: How it is divided.
    """
    more: Tensor | None = None
    for dim in sorted(extensions):
        one = extensions[dim]
        tensor = _multiplied(tensor, one)
        if dim == division.dim:
            more = _entry(tensor, dim, one, division.size, division.reduce)
            continue
        size = tensor.shape[dim]
        tensor = torch.cat([tensor, _entry(tensor, dim, one, size, alone)], dim)
        more = more if more is None else torch.cat([more, _entry(more, dim, one, size, alone)], dim)
    return tensor, more


def _multiplied(tensor: Tensor, one: Extension) -> Tensor:
    return tensor if one.gain == 1.0 else (tensor.double() * one.gain).to(tensor.dtype)


def _entry(tensor: Tensor, dim: int, one: Extension, size: int, reduce: Reduce) -> Tensor:
    if one.kind == "zero":
        return tensor.new_zeros([*tensor.shape[:dim], 1, *tensor.shape[dim + 1 :]])
    numbers = tensor if has_arithmetic(tensor) else tensor.double()
    return exact_mean(numbers, dim, size, reduce, absolute=one.kind == "size").to(tensor.dtype)
