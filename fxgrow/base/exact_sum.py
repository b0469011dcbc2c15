"""Sums that do not depend on the order of their terms: the same bits by blocks, by threads and by processes.

Each term is split into two integers, in units of the largest term's exponent; sums of integers are exact. What is left
out is below 2 ** -53 of the largest term.

Source: reproducible summation by bins of exponents (Demmel, Nguyen, IEEE ARITH 2013), with two bins.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

PART = 1 << 17  # entries at a time: their copies in float64 stay in the processor's cache
HIGH, LOW = 26, 27  # bits of each integer: sums of 2 ** 27 of them stay exact in float64

Reduce = Callable[[Tensor, Literal["max", "sum"]], Tensor]  # of the numbers of all processes, one of each


def alone(numbers: Tensor, how: Literal["max", "sum"]) -> Tensor:
    """The reduction over one process."""
    return numbers


def exact_sum(tensor: Tensor, reduce: Reduce = alone) -> float:
    """The sum of a tensor's entries, or of the parts that several processes hold.

    Args:
        tensor: Real, of any shape; this process's part.
        reduce: Makes the largest or the sum of the numbers of all processes.

    Returns:
        The sum; infinite or NaN where an entry is.
    """
    parts = tensor.detach().reshape(-1).split(PART)
    largest = torch.zeros((), dtype=torch.float64, device=tensor.device)
    for part in parts if tensor.numel() else ():
        largest = torch.maximum(largest, part.abs().max().double())
    top = float(reduce(largest, "max"))
    if not math.isfinite(top) or top == 0:
        return top
    exponent = math.frexp(top)[1]
    sums = torch.zeros(2, dtype=torch.int64, device=tensor.device)
    for part in parts if tensor.numel() else ():
        sums += _bins(part, exponent)
    high, low = reduce(sums, "sum").tolist()
    return math.ldexp((high << LOW) + low, exponent - HIGH - LOW)


def _bins(part: Tensor, exponent: int) -> Tensor:
    """The sums of both integers of all terms, int64 (2,)."""
    scaled = _scaled(part.to(torch.float64, copy=True), HIGH - exponent)
    high = scaled.round()
    low = scaled.sub_(high).mul_(float(1 << LOW)).round_()
    return torch.stack([high.sum(), low.sum()]).to(torch.int64)


def _scaled(terms: Tensor, exponent: int) -> Tensor:
    """The terms times a power of two, which may be too large or too small for one factor; in place."""
    half = exponent // 2
    return terms.mul_(math.ldexp(1.0, half)).mul_(math.ldexp(1.0, exponent - half))
