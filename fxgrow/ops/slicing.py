"""Contiguous parts and reorderings along a dimension: slices, splits, flips, rolls, windows, triangles.

A slice cuts the layout. All reorderings pin the dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..layouts.layout import Layout, concat, fixed
from .env import Env, Outcome, Value
from .registry import Exactness, Sample, rule

aten = torch.ops.aten


def with_dim(x: Value, dim: int, layout: Layout) -> tuple[Layout, ...]:
    """The layouts of x with that of one dimension replaced."""
    at = dim % len(x.layouts)
    return (*x.layouts[:at], layout, *x.layouts[at + 1 :])


def pieces(env: Env, layout: Layout, sizes: Sequence[int]) -> list[Layout]:
    """A dimension cut into consecutive parts; the sizes sum to its size."""
    out: list[Layout] = []
    rest = layout
    for length in sizes[:-1]:
        if length == 0:
            out.append(fixed(0))
            continue
        first, rest = env.cut(rest, length)
        out.append(first)
    return [*out, rest]


@rule(
    aten.slice.Tensor,
    samples=[
        Sample(lambda: lambda x: torch.cat([x[:, 5:], x[:, :5]], 1)),
        Sample(lambda: lambda x: x[:, -3:] + x[:, 1:4]),
        Sample(lambda: lambda x: x[:, :, ::2, 1:]),
        Sample(lambda: lambda x: x.narrow(1, 2, 4)),
        Sample(lambda: lambda x: x[:, ::2], grows=False),
    ],
    sized=(3,),  # the end follows from the start and the shape; the start is stated by `expect`
    exact=Exactness(any="the dimension, cut at the start and the end of the slice", pinned="a strided slice"),
    linear="each",
)
def slice_(
    env: Env, x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Outcome:
    """x[..., start:end:step, ...]"""
    length, layout = x.shape[dim], x.layouts[dim]
    low, high, _ = slice(start, end, step).indices(length)
    if (low, high, step) == (0, length, 1):
        return x.derived(x.layouts, x.dims)
    if step != 1 or high <= low:
        env.keep(layout, "a strided slice of channels")
        return with_dim(x, dim, fixed(env.outs[0][dim]))
    before, after = fixed(0), fixed(0)
    if high < length:
        layout, after = env.cut(layout, high)
    if low > 0:
        before, layout = env.cut(layout, low)
    env.unread(before)
    env.unread(after)
    env.expect(2, before, concat([layout, after]))
    return x.derived(with_dim(x, dim, layout), x.dims)


@rule(
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.unsafe_split.Tensor,
    samples=[
        Sample(lambda: lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)),
        Sample(lambda: lambda x: torch.cat(x.split(3, 1)[::-1], 1)),
        Sample(lambda: lambda x: torch.cat(x.split([1, 5, 2], dim=1)[::-1], 1)),
        Sample(lambda: lambda x: torch.cat(x.split(4, 2)[::-1], 2)),
        Sample(lambda: lambda x: torch.cat(x.unsafe_split(4, 2)[::-1], 2)),
        Sample(lambda: lambda x: torch.cat(x.split([2, 4], 2)[::-1], 2)),
    ],
    sized=(1,),
    exact=Exactness(any="the dimension, cut into the parts"),
    linear="each",
)
def split(env: Env, x: Value, sizes: int | Sequence[int], dim: int = 0) -> Outcome:
    """Consecutive parts along dim."""
    parts = pieces(env, x.layouts[dim], [out[dim] for out in env.outs])
    return [x.derived(with_dim(x, dim, part), x.dims) for part in parts]


@rule(
    aten.flip.default,
    samples=[Sample(lambda: lambda x: x.flip(2)), Sample(lambda: lambda x: x.flip(1), grows=False)],
    exact=Exactness(any="the other dimensions", pinned="the dimensions reversed"),
    linear="each",
)
def flip(env: Env, x: Value, dims: Sequence[int]) -> Outcome:
    """Reversed along dims, which are pinned: the mapping of channels is not symmetric."""
    for d in dims:
        env.keep(x.layouts[d], "channels are reversed")
    return x.reordered(dims)


@rule(
    aten.rot90.default,
    samples=[
        Sample(lambda: lambda x: x.rot90(1, (2, 3))),
        Sample(lambda: lambda x: x.rot90(2, (1, 2)), grows=False),
    ],
    exact=Exactness(any="the other dimensions", pinned="the plane of rotation"),
)
def rot90(env: Env, x: Value, times: int = 1, dims: Sequence[int] = (0, 1)) -> Outcome:
    """Rotated by multiples of 90 degrees in the plane of two dimensions, which are pinned."""
    x = flip(env, x, dims)
    order = list(range(len(x.layouts)))
    if times % 2:
        order[dims[0]], order[dims[1]] = order[dims[1]], order[dims[0]]
    return x.derived([x.layouts[d] for d in order], [x.dims[d] for d in order if x.dims])


@rule(
    aten.roll.default,
    samples=[Sample(lambda: lambda x: x.roll(1, 2)), Sample(lambda: lambda x: x.roll(1, 1), grows=False)],
    exact=Exactness(any="the other dimensions", pinned="the dimensions rolled"),
    linear="each",
)
def roll(env: Env, x: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Outcome:
    """Shifted cyclically along dims, which are pinned."""
    rolled = dims or range(len(x.layouts))
    for d in rolled:
        env.keep(x.layouts[d], "channels are rolled")
    return x.reordered(rolled)


@rule(
    aten.unfold.default,
    samples=[
        Sample(lambda: lambda x: x.unfold(2, 3, 1).amax(-1)),
        Sample(lambda: lambda x: x.unfold(-1, 3, 1)),
        Sample(lambda: lambda x: x.unfold(1, 2, 2), grows=False),
    ],
    exact=Exactness(any="the other dimensions", pinned="the dimension unfolded"),
)
def unfold(env: Env, x: Value, dim: int, length: int, step: int) -> Outcome:
    """Windows along a dimension; their entries become the last dimension."""
    env.keep(x.layouts[dim], "windows slide over channels")
    return (*with_dim(x, dim, fixed(env.outs[0][dim % len(x.layouts)])), fixed(length))


@rule(
    aten.triu.default,
    aten.tril.default,
    samples=[
        Sample(lambda: lambda x: x.triu() + x.tril(1)),
        Sample(lambda: lambda x: x.triu(), (4, 8), grows=False, dim=2),
    ],
    exact=Exactness(any="the other dimensions", pinned="the last two"),
)
def triangle(env: Env, x: Value, diagonal: int = 0) -> Outcome:
    """Zeros on one side of a diagonal of the last two dimensions."""
    for layout in x.layouts[-2:]:
        env.keep(layout, "a diagonal runs through it")
    return x.layouts
