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
BIAS, MANTISSA = 1023, 52  # of float64

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
    return _sum_of(tensor, lambda part: part, reduce)


def exact_mean_and_std(tensor: Tensor, number: int, reduce: Reduce = alone) -> tuple[float, float]:
    """The mean and the standard deviation (of the entries, not of a sample) of a tensor.

    Args:
        tensor: Real, of any shape; this process's part.
        number: The entries of the whole tensor, at least one.
        reduce: As for `exact_sum`.
    """
    mean = exact_sum(tensor, reduce) / number
    if not math.isfinite(mean):
        return mean, math.nan
    return mean, math.sqrt(_sum_of(tensor, lambda part: (part.double() - mean).square(), reduce) / number)


def _sum_of(tensor: Tensor, term: Callable[[Tensor], Tensor], reduce: Reduce) -> float:
    """The sum of a function of a tensor's entries."""
    parts = tensor.detach().reshape(-1).split(PART)
    largest = torch.zeros((), dtype=torch.float64, device=tensor.device)
    for part in parts if tensor.numel() else ():
        largest = torch.maximum(largest, term(part).abs().max().double())
    top = float(_largest(largest, reduce))
    if not math.isfinite(top) or top == 0:
        return top
    exponent = math.frexp(top)[1]
    sums = torch.zeros(2, dtype=torch.int64, device=tensor.device)
    for part in parts if tensor.numel() else ():
        sums += _bins(term(part), exponent)
    high, low = reduce(sums, "sum").tolist()
    return math.ldexp((high << LOW) + low, exponent - HIGH - LOW)


def _largest(mine: Tensor, reduce: Reduce) -> Tensor:
    """The largest of all processes; NaN where one has a NaN, which a maximum of two need not be."""
    number, is_nan = reduce(torch.stack([mine.nan_to_num(math.inf, math.inf), mine.isnan().double()]), "max")
    return torch.where(is_nan > 0, math.nan, number)


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


def exact_mean(tensor: Tensor, dim: int, number: int, reduce: Reduce = alone, *, absolute: bool = False) -> Tensor:
    """The mean along one dimension, which may be divided among processes.

    Args:
        tensor: Real; this process's part.
        dim: The dimension, kept with size 1.
        number: The size of the whole dimension, at least one.
        reduce: As for `exact_sum`.
        absolute: Of the absolute values.

    Returns:
        float64; infinite or NaN where one of the entries is.
    """
    rows = tensor.detach().movedim(dim, 0)
    shape = (1, *rows.shape[1:])
    parts = rows.split(max(1, PART // max(1, rows[:1].numel()))) if len(rows) else ()
    largest = torch.zeros(shape, dtype=torch.float64, device=tensor.device)
    for part in parts:
        largest = torch.maximum(largest, part.abs().amax(0, keepdim=True).double())
    top = _largest(largest, reduce)
    exponent = torch.frexp(top.nan_to_num(0.0, 0.0))[1].long()
    sums = torch.zeros((2, *shape), dtype=torch.int64, device=tensor.device)
    for part in parts:
        scaled = _times_power(part.abs().double() if absolute else part.double(), HIGH - exponent)
        high = scaled.round()
        low = scaled.sub_(high).mul_(float(1 << LOW)).round_()
        sums += torch.stack([high.sum(0, keepdim=True), low.sum(0, keepdim=True)]).nan_to_num_(0.0).to(torch.int64)
    high, low = reduce(sums, "sum").double()
    total = _times_power(high * float(1 << LOW) + low, exponent - HIGH - LOW)
    return torch.where(top.isfinite(), total / number, top).movedim(0, dim)


def _times_power(terms: Tensor, exponent: Tensor) -> Tensor:
    """The terms times powers of two, which are made of bits: `exp2` is rounded on some devices. In new memory."""
    half = exponent // 2
    for part in (half, exponent - half):
        terms = terms * ((part + BIAS) << MANTISSA).view(torch.float64)
    return terms
