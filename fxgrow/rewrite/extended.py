"""What a teacher's tensor says as a whole, where new entries need it: one more entry in a dimension, and moments.

Sums are exact (`base.exact_sum`), so a tensor that is divided among processes says the same, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..base.exact_sum import Reduce, alone, exact_mean
from ..base.magnitude import has_arithmetic


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
        dim: The dimension that is; None for none.
        size: The size of all of it.
        reduce: The reduction of numbers over the processes.
    """

    dim: int | None = None
    size: int = 0
    reduce: Reduce = alone


WHOLE = Division()


def extended(
    tensor: Tensor, extensions: Mapping[int, Extension], division: Division = WHOLE
) -> tuple[Tensor, Tensor | None]:
    """A tensor with one more entry in some dimensions, and that of the divided dimension, which is no process's, apart.

    Args:
        tensor: The teacher's, or this process's part.
        extensions: By dimension.
        division: How it is divided.
    """
    more: Tensor | None = None
    for dim in sorted(extensions):
        one = extensions[dim]
        if one.gain != 1.0:
            tensor = (tensor.double() * one.gain).to(tensor.dtype)
        if dim == division.dim:
            more = _entry(tensor, dim, one, division.size, division.reduce)
            continue
        size = tensor.shape[dim]
        tensor = torch.cat([tensor, _entry(tensor, dim, one, size, alone)], dim)
        more = more if more is None else torch.cat([more, _entry(more, dim, one, size, alone)], dim)
    return tensor, more


def _entry(tensor: Tensor, dim: int, one: Extension, size: int, reduce: Reduce) -> Tensor:
    if one.kind == "zero":
        return tensor.new_zeros([*tensor.shape[:dim], 1, *tensor.shape[dim + 1 :]])
    numbers = tensor if has_arithmetic(tensor) else tensor.double()
    return exact_mean(numbers, dim, size, reduce, absolute=one.kind == "size").to(tensor.dtype)
