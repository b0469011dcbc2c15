"""The arithmetic of methods: random and zero entries, and the division of a weight among replicas.

In: a gathered tensor and its grown dimension (`Columns`). Out: the same tensor, changed in place. Random numbers are
drawn on the CPU, so that they are the same on every device.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from ..base.magnitude import has_arithmetic
from ..base.rng import sixteen_bits
from .columns import Columns, Where, put, take

HE = 2.0  # gain that keeps the variance of a signal through ReLU (He et al., arXiv 1502.01852)
TORCH = 1 / 3  # gain of torch.nn's default initialisation of linear and convolution layers

Share = Callable[[torch.Size, int], tuple[Tensor, float]]  # (shape, parts left) -> (numerators, scale)


def normal(shape: torch.Size, like: Tensor, generator: Generator) -> Tensor:
    """Standard normal numbers of a shape, with the dtype and device of `like`."""
    return torch.randn(shape, generator=generator, dtype=torch.float32).to(like)


def fill_new(tensor: Tensor, columns: Columns, entries: Tensor) -> Tensor:
    """Set the new entries of a grown dimension to `entries`, which are broadcast to them, in place."""
    shape = list(tensor.shape)
    shape[columns.dim] = len(columns.new)
    return tensor.index_copy_(columns.dim, columns.new, entries.to(tensor.dtype).expand(shape))


def random_entries(weight: Tensor, columns: Columns, generator: Generator, gain: float = HE) -> Tensor:
    """Draw the new entries of a dimension from a uniform distribution, mean 0 and variance gain / fan_in, in place.

    The numbers are multiples of 2 ** -15 of the bound, which is finer than what any initialisation needs. Integers and
    float8 stay gathered.
    """
    if not columns.count or not has_arithmetic(weight):
        return weight
    bound = math.sqrt(3 * gain / max(1, columns.fan_in or _fan_in(weight)))
    part = take(weight, columns.dim, columns.new_at)
    drawn = sixteen_bits(part.numel(), generator).view(part.shape)
    part.copy_(drawn).mul_(bound / (1 << 15))  # in one step, from integers, it takes three times as long
    if not isinstance(columns.new_at, slice):  # `part` is a copy, not a view of the weight
        put(weight, columns.dim, columns.new_at, part)
    return weight


def _fan_in(weight: Tensor) -> int:
    return weight[0].numel() if weight.ndim > 1 else 1


def silence(weight: Tensor, columns: Columns) -> Tensor:
    """Set the new entries of a dimension to zero, in place."""
    if isinstance(columns.new_at, slice):
        take(weight, columns.dim, columns.new_at).zero_()
        return weight
    return weight.index_fill_(columns.dim, columns.new_at, 0.0)


def divide(weight: Tensor, columns: Columns, share: Share) -> Tensor:
    """Split each replicated column V of a weight into V_1 + ... + V_k = V, in place, without rounding errors.

    Only the old columns are read. What the weight holds at the new ones is overwritten.

    One part is subtracted after the other: V_k = s V, V_(k-1) = s' (V - V_k), ...; V_1 is the remainder. Let
    0 < s < 1 and t = (1 + s) V, rounded to the weight's dtype. Then V <= t <= 2 V, so t - V is exact (Sterbenz); it is
    a multiple of the last bit of V and no larger than V, so V - (t - V) is exact, too.

    Args:
        weight: Gathered along `columns.dim`, any floating dtype.
        columns: The grown dimension.
        share: Called with the shape of a part and the number of parts left (including this one). Returns the share
            of the remainder that the part gets: numerators (of that shape, or a scalar tensor) and their scale.
    """
    dim = columns.dim
    for turn in columns.rounds:
        shape = torch.Size([*weight.shape[:dim], turn.number, *weight.shape[dim + 1 :]])
        numerators, scale = share(shape, turn.parts)
        numerators = numerators.to(weight)
        start = 0
        for here, rest_at, number in turn.pieces:
            part = numerators.narrow(dim, start, number) if numerators.ndim else numerators
            _move_share(weight, dim, here, rest_at, part, scale)
            start += number
    return weight


def _move_share(weight: Tensor, dim: int, here: Where, rest_at: Where, numerators: Tensor, scale: float) -> None:
    """Subtract a share of the entries at `rest_at` and write it to `here`, in place."""
    rest = take(weight, dim, rest_at)
    out = take(weight, dim, here) if isinstance(here, slice) else torch.empty_like(rest)
    part = _exact_share(rest, numerators, scale, out)
    if not isinstance(here, slice):
        put(weight, dim, here, part)
    rest.sub_(part)
    if not isinstance(rest_at, slice):  # `rest` is a copy, not a view of the weight
        put(weight, dim, rest_at, rest)


def _exact_share(rest: Tensor, numerators: Tensor, scale: float, out: Tensor) -> Tensor:
    """A share of each entry of `rest` whose subtraction from it is exact; written to `out`, of the same shape."""
    more = torch.addcmul(rest, rest, numerators, value=scale)
    wide = torch.float32 if more.dtype == torch.float16 else None  # in which a sum of finite numbers is finite
    if more.is_cpu and math.isfinite(float(more.sum(dtype=wide))):
        return torch.sub(more, rest, out=out)
    half = rest * 0.5  # twice the largest finite numbers overflows
    half = torch.addcmul(half, half, numerators, value=scale).sub_(half)
    return out.copy_(torch.where(more.isfinite(), more - rest, half * 2))
