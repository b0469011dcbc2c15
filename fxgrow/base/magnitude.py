"""Which tensors hold fractions, and which numbers are so large that what is computed with them may be infinite."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import torch
from torch import Tensor


def far_from_zero(dtypes: Iterable[torch.dtype]) -> float:
    """The magnitude from which on products of two numbers in the narrowest of these dtypes are infinite."""
    return _far_from_zero(frozenset(dtypes))


def is_inexact(tensor: Tensor) -> bool:
    """Whether a tensor holds numbers with fractions, real or complex."""
    return tensor.is_floating_point() or tensor.is_complex()


def has_arithmetic(tensor: Tensor) -> bool:
    """Whether entries of a tensor can be divided and drawn: not integers, nor float8, which torch only stores."""
    return is_inexact(tensor) and tensor.dtype.itemsize > 1


@cache
def _far_from_zero(dtypes: frozenset[torch.dtype]) -> float:
    floating = [dtype for dtype in dtypes if dtype.is_floating_point or dtype.is_complex]
    return float(min(torch.finfo(dtype).max for dtype in floating or [torch.float32]) ** 0.5)


def is_narrower(dtype: torch.dtype, than: torch.dtype) -> bool:
    """Whether common numbers of one dtype are infinite in another: in float16, not in bfloat16, of float32."""
    if not (dtype.is_floating_point and than.is_floating_point):
        return False
    return torch.finfo(dtype).max < min(torch.finfo(than).max, torch.finfo(torch.bfloat16).max)


def holds(dtype: torch.dtype, before: torch.dtype) -> bool:
    """Whether each number of one dtype is one of another, of real numbers."""
    if dtype == before or not dtype.is_floating_point:
        return dtype == before and dtype.is_floating_point
    if dtype.itemsize == 1 or (before.is_floating_point and before.itemsize == 1):  # torch does not promote float8
        return dtype.itemsize > 2 and before.itemsize == 1
    return torch.promote_types(before, dtype) == dtype


def is_rounded(dtypes: tuple[torch.dtype, ...]) -> bool:
    """Whether real numbers are written into a tensor of whole numbers, which code uses as positions."""
    whole = bool(dtypes) and not dtypes[0].is_floating_point and not dtypes[0].is_complex and dtypes[0] != torch.bool
    return whole and any(dtype.is_floating_point for dtype in dtypes[1:])
