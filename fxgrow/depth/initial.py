"""What the weights of new layers begin with, row by row: any rows are made alone, on any process, in any order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..base.rng import block_generator

BLOCK = 1 << 20  # the entries that one generator draws, in whole rows


@dataclass(frozen=True, slots=True)
class Constant:
    """One value."""

    value: float

    def write(self, rows: Tensor, shape: tuple[int, ...], start: int, seed: int) -> None:
        """Write rows of a tensor, in place.

        Args:
            rows: Where they go, shape (number of rows, *rest).
            shape: Of the whole tensor, (all rows, *rest).
            start: The number of the first row.
            seed: The seed for random entries.
        """
        rows.fill_(self.value)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Random entries between -1 / sqrt(fan_in) and its opposite, as `torch.nn` draws weights and biases.

    Attributes:
        name: What the draws depend on, beside the seed.
        fan_in: The number of entries in a row of the layer's weight.
    """

    name: str
    fan_in: int

    def write(self, rows: Tensor, shape: tuple[int, ...], start: int, seed: int) -> None:
        """Write rows of a tensor, in place; see `Constant.write`."""
        bound = 1 / math.sqrt(self.fan_in)
        for block, (first, last) in enumerate(row_blocks(shape)):
            begin, end = max(first, start), min(last, start + len(rows))
            if begin < end:
                draws = block_generator(seed, self.name, 0, block)
                numbers = torch.empty((last - first, *shape[1:]), dtype=torch.float32, device="cpu")
                numbers.uniform_(-bound, bound, generator=draws)
                rows[begin - start : end - start].copy_(numbers[begin - first : end - first])


@dataclass(frozen=True, slots=True)
class Identity:
    """The weight of a linear or convolution layer that returns its input; of a grouped one each group does."""

    def write(self, rows: Tensor, shape: tuple[int, ...], start: int, seed: int) -> None:
        """Write rows of a tensor, in place; see `Constant.write`."""
        rows.zero_()
        middle = [(size - 1) // 2 for size in shape[2:]]
        number = torch.arange(len(rows), device=rows.device)
        taps: Any = (number, (number + start) % shape[1], *middle)  # the same channel within its group
        rows[taps] = 1.0


Start = Constant | Uniform | Identity


def row_blocks(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """The first row and the row after the last of each block of a tensor; a scalar has one row."""
    number = shape[0] if shape else 1
    step = max(1, BLOCK // max(1, math.prod(shape[1:])))
    return ((first, min(first + step, number)) for first in range(0, number, step))


def drawn(shape: tuple[int, ...], seed: int, name: str, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A new weight as `torch.nn` initialises it, shape (results, inputs, *kernel), drawn by its name."""
    weight = torch.empty(shape, device=device, dtype=dtype)
    if device.type != "meta":
        Uniform(name, math.prod(shape[1:])).write(weight, shape, 0, seed)
    return weight
