"""Reshaping, permuting, expanding and joining: the values are unchanged. Exact for any mapping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import rnn

from ..base.roles import PASSED_ON
from ..layouts.layout import ONE, Layout, concat, fixed, only_atom, product
from ..layouts.unify import Inexpressible
from .env import Env, Outcome, Value
from .registry import Exactness, Sample, rule

aten = torch.ops.aten


@rule(
    aten.view.default,
    aten._unsafe_view.default,
    aten.view_copy.default,
    samples=[
        Sample(nn.Flatten),
        Sample(lambda: lambda x: x.reshape(-1, 8 * 6 * 4)),
        Sample(lambda: lambda x: x.reshape(x.shape[0], 2, -1, 6, 4).transpose(1, 2).reshape(x.shape)),
        Sample(lambda: lambda x: x.flatten(2).unflatten(2, (6, 4))),
        Sample(lambda: lambda x: torch.view_copy(x, (x.shape[0], x.shape[1], 24))),
    ],
    sized=(1,),
    exact=Exactness(any="every dimension; of several factors those whose sizes are no literals of the code"),
    linear="each",
)
def view(env: Env, x: Value, shape: Sequence[int], *args: Any) -> Outcome:
    """Dimensions are merged and split in row-major order."""
    old, new = x.shape, env.outs[0]
    if env.in_one_head() and (joined := _head_moved(env, x, new)):
        return x.derived(joined, ())
    kinds = env.kinds(new)
    layouts: list[Layout] = []
    dims: list[tuple[int, ...]] = []
    single = [env.is_single(layout) for layout in x.layouts]
    if any(one and only_atom(la) is None for la, one in zip(x.layouts, single, strict=True)):  # behind the batch
        kinds = tuple(["single" if n == 1 else kind for n, kind in zip(new, kinds, strict=True)])
    for mine, theirs in _aligned(old, new, single, [kind == "single" for kind in kinds]):
        source = tuple(d for i in mine for d in (x.dims[i] if x.dims else ()))
        if len(theirs) == 1 and len(mine) == 1:
            layouts.append(x.layouts[mine[0]])
        else:
            merged = product([x.layouts[i] for i in mine]) if mine else ONE
            sizes, hints = [new[i] for i in theirs], [kinds[i] for i in theirs]
            if all(h in ("count", "single") for h in hints):  # all are literals: other operators tell which one grows
                hints = ["single" if h == "single" else "width" for h in hints]
            parts = env.split(merged, sizes, hints) if theirs else []
            layouts.extend(parts)
            if len(parts) > 1:
                env.declare(unflattened_size=parts)
            if not theirs:
                env.keep(merged, "a dimension of size 1 is dropped")
        own = env.shape_of(x.source) if x.source and len(source) == len(theirs) else ()
        apart = bool(own) and all(own[d] == new[i] for d, i in zip(source, theirs, strict=True))
        dims.extend([(d,) for d in source] if apart else [source] * len(theirs))  # merged before, and now as it was
    return x.derived(layouts, dims)


def _head_moved(env: Env, x: Value, new: tuple[int, ...]) -> list[Layout]:
    """The layouts of views of `nn.MultiheadAttention` whose shapes say nothing of the heads, where there is one.

    (T, N, heads * E) -> (T, N * heads, E), and back to (T * N, heads * E); (N * heads, T, E) -> (N, heads, T, E), and
    back. For other views: none.
    """
    old = x.shape
    if x.source or len(old) not in (3, 4):
        return []
    if len(old) == 4:
        batch, heads, *rest = x.layouts
        return [product([batch, heads]), *rest] if new == (old[0], *old[2:]) and env.is_single(heads) else []
    if new == (old[0], 1, *old[1:]) and env.is_single(x.layouts[0]):
        return [*env.split(x.layouts[0], [old[0], 1], ["width", "single"]), *x.layouts[1:]]
    steps, batch, last = x.layouts
    if new == old and not env.is_single(steps):
        heads, row = env.split(last, [1, old[2]], ["single", "width"])
        return [steps, product([batch, heads]), row]
    if new == (old[0] * old[1], old[2]) and env.is_single(batch):
        batch, heads = env.split(batch, [old[1], 1], ["width", "single"])
        return [product([steps, batch]), product([heads, last])]
    return []


def _aligned(
    old: tuple[int, ...], new: tuple[int, ...], single_old: Sequence[bool], single_new: Sequence[bool]
) -> list[tuple[list[int], list[int]]]:
    """The shortest runs of old and of new dimensions with equal products, as lists of dimensions.

    A number of heads, which is 1, belongs to the last dimension if it stands in front of that, else to the one before.
    """
    runs: list[tuple[list[int], list[int]]] = []
    ahead: tuple[list[int], list[int]] = ([], [])
    i = j = 0
    while i < len(old) or j < len(new):
        if old[i : i + 1] == (1,) and single_old[i] and new[j : j + 2] == (1, 1) and old[i + 1 : i + 2] != (1,):
            runs.append(([], [j]))  # a batch of 1 was added in front of the heads
            j += 1
        mine, theirs = [i] if i < len(old) else [], [j] if j < len(new) else []
        a, b = (old[i] if mine else 1), (new[j] if theirs else 1)
        i, j = i + len(mine), j + len(theirs)
        if a != b and mine and theirs and 1 in (a, b):  # a dimension of size 1 was added or dropped
            if a == 1:
                theirs, j = [], j - 1
            else:
                mine, i = [], i - 1
            if any(single_old[d] for d in mine) or any(single_new[d] for d in theirs):
                last = mine == [len(old) - 2] or theirs == [len(new) - 2]
                if last or not runs:
                    ahead = ([*ahead[0], *mine], [*ahead[1], *theirs])
                else:
                    runs[-1] = ([*runs[-1][0], *mine], [*runs[-1][1], *theirs])
            else:
                runs.append((mine, theirs))
            continue
        mine, theirs, ahead = [*ahead[0], *mine], [*ahead[1], *theirs], ([], [])
        while a != b:
            if a < b and i < len(old):
                mine.append(i)
                a, i = a * old[i], i + 1
            elif j < len(new):
                theirs.append(j)
                b, j = b * new[j], j + 1
            else:
                break
        runs.append((mine, theirs))
    return runs


@rule(
    aten.as_strided.default,
    aten.as_strided_.default,
    samples=[
        Sample(lambda: lambda x: F.adaptive_avg_pool2d(x.contiguous(memory_format=torch.channels_last), 1)),
        Sample(lambda: lambda x: x.as_strided((x.shape[0], 8, 24), (192, 24, 1)), grows=False),
    ],
    sized=(1, 2),
    exact=Exactness(any="every dimension, if the strides are the tensor's own", pinned="every dimension otherwise"),
)
def as_strided(env: Env, x: Value, shape: Sequence[int], strides: Sequence[int], *args: Any) -> Outcome:
    """x, if the shape and strides are those of x (pooling to one pixel in channels-last memory)."""
    same = all(a == b or n == 1 for a, b, n in zip(strides, env.strides[0], x.shape, strict=False))
    if tuple(shape) != x.shape or not same or any(args):
        raise Inexpressible("as_strided addresses memory, not dimensions")
    return x.layouts


@rule(
    aten.permute.default,
    samples=[Sample(lambda: lambda x: x.permute(0, 2, 3, 1).movedim(-1, 1))],
    exact=Exactness(any="every dimension"),
    linear="each",
)
def permute(env: Env, x: Value, order: Sequence[int]) -> Outcome:
    """out[..., i, ...] = x.permute(order)"""
    return x.derived([x.layouts[d] for d in order], [x.dims[d] for d in order] if x.dims else ())


@rule(
    aten.transpose.int,
    aten.transpose_.default,
    samples=[
        Sample(lambda: lambda x: x.transpose(1, -1).swapaxes(1, 3)),
        Sample(lambda: lambda x: x.clone().transpose_(1, 2).transpose_(1, 2)),
    ],
    exact=Exactness(any="every dimension"),
    linear="each",
)
def transpose(env: Env, x: Value, a: int, b: int) -> Outcome:
    """Two dimensions are swapped."""
    order = list(range(len(x.layouts)))
    order[a], order[b] = order[b], order[a]
    return permute(env, x, order)


@rule(
    aten.t.default,
    samples=[Sample(lambda: lambda x: x[0].t().t()[None], (8,), grows=True)],
    exact=Exactness(any="every dimension"),
    linear="each",
)
def t(env: Env, x: Value) -> Outcome:
    """The transposed matrix."""
    return permute(env, x, list(range(len(x.layouts)))[::-1])


@rule(
    aten.unsqueeze.default,
    aten.unsqueeze_.default,
    samples=[
        Sample(lambda: lambda x: x.unsqueeze(1).squeeze(1)),
        Sample(lambda: lambda x: x.clone().unsqueeze_(1).squeeze_(1)),
    ],
    exact=Exactness(any="every dimension"),
    linear="each",
)
def unsqueeze(env: Env, x: Value, dim: int) -> Outcome:
    """A new dimension of size 1 at dim."""
    at = dim % (len(x.layouts) + 1)
    dims = (*x.dims[:at], (), *x.dims[at:])
    return x.derived((*x.layouts[:at], ONE, *x.layouts[at:]), dims)


@rule(
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.squeeze_.dim,
    samples=[
        Sample(lambda: lambda x: x.mean((2, 3), keepdim=True).squeeze(-1).squeeze()),
        Sample(lambda: lambda x: x.mean((2, 3), keepdim=True).squeeze((2, 3))),
        Sample(lambda: lambda x: x.clone().unsqueeze_(1).squeeze_(1)),
    ],
    exact=Exactness(any="the remaining dimensions"),
    linear="each",
)
def squeeze(env: Env, x: Value, dim: int | Sequence[int] | None = None) -> Outcome:
    """Dimensions of size 1 are removed."""
    rank = len(x.layouts)
    chosen = range(rank) if dim is None else [dim % rank] if isinstance(dim, int) else [d % rank for d in dim]
    gone = [d for d in chosen if x.shape[d] == 1]
    for d in gone:
        env.keep(x.layouts[d], "a dimension of size 1 is dropped")
    kept = [d for d in range(rank) if d not in gone]
    return x.derived([x.layouts[d] for d in kept], [x.dims[d] for d in kept] if x.dims else ())


@rule(
    aten.expand.default,
    samples=[
        Sample(lambda: lambda x: x + x.mean((2, 3), keepdim=True).expand(-1, -1, 6, 4)),
        Sample(lambda: lambda x: x * x[:, :1].expand_as(x)),
    ],
    sized=(1,),
    exact=Exactness(any="every dimension", pinned="a dimension of size 1 that is expanded"),
    linear="spread",
)
def expand(env: Env, x: Value, shape: Sequence[int], **kwargs: Any) -> Outcome:
    """Dimensions of size 1 are repeated; values are constant along them, so they are elastic."""
    new = env.outs[0]
    added = len(new) - len(x.layouts)
    layouts: list[Layout] = [env.elastic(n) for n in new[:added]]
    if env.in_one_head() and new == x.shape and len(new) == 4 and new[1] == 1 and x.layouts[1] == ONE:
        batch, _, *rest = x.layouts  # a mask for all heads
        return x.derived([batch, env.count(1), *rest], ())
    for layout, before, after in zip(x.layouts, x.shape, new[added:], strict=True):
        if before != after:
            env.keep(layout, "one value is broadcast over all channels")
        layouts.append(layout if before == after else env.elastic(after))
    return x.derived(layouts, [()] * added + list(x.dims))


@rule(
    aten.repeat.default,
    samples=[Sample(lambda: lambda x: x.repeat(1, 2, 1, 1)), Sample(lambda: lambda x: x.repeat(1, 1, 1, 3))],
    exact=Exactness(any="every dimension, with the number of copies as a fixed factor"),
    kinds={"self": PASSED_ON},
)
def repeat(env: Env, x: Value, times: Sequence[int]) -> Outcome:
    """The tensor repeated along each dimension: times * x, as a fixed factor of the layout."""
    added = len(times) - len(x.layouts)
    layouts = (ONE,) * added + x.layouts
    return tuple(product([fixed(n), layout]) for n, layout in zip(times, layouts, strict=True))


@rule(
    aten.cat.default,
    samples=[
        Sample(lambda: lambda x: torch.cat([x, x.relu()], 1)),
        Sample(lambda: lambda x: torch.cat([x, x], 2)),
    ],
    exact=Exactness(any="every dimension; the joined ones as blocks of the result"),
    linear="each",
)
def cat(env: Env, parts: Sequence[Value], dim: int = 0) -> Outcome:
    """The parts concatenated along dim; all other dimensions are unified."""
    real = [p for p in parts if p.shape != (0,)]
    first, at = real[0], dim % len(real[0].layouts)
    for other in real[1:]:
        for d, (a, b) in enumerate(zip(first.layouts, other.layouts, strict=True)):
            if d != at:
                env.unify(a, b)
    joined = concat([p.layouts[at] for p in real])
    return tuple(joined if d == at else layout for d, layout in enumerate(first.layouts))


@rule(
    aten.stack.default,
    samples=[
        Sample(lambda: lambda x: torch.stack([x, x.relu()], 1).amax(1)),
        Sample(lambda: lambda x: torch.stack([x, x], 2).flatten(1, 2)),
        Sample(lambda: lambda x: torch.stack([x, -3 * x], 2).mean(2)),
    ],
    exact=Exactness(any="every dimension of the parts"),
    linear="each",
)
def stack(env: Env, parts: Sequence[Value], dim: int = 0) -> Outcome:
    """The parts stacked along a new dimension; all other dimensions are unified."""
    first = parts[0]
    for other in parts[1:]:
        for a, b in zip(first.layouts, other.layouts, strict=True):
            env.unify(a, b)
    at = dim % (len(first.layouts) + 1)
    return (*first.layouts[:at], fixed(len(parts)), *first.layouts[at:])


@rule(
    aten.channel_shuffle.default,
    samples=[Sample(lambda: nn.ChannelShuffle(2))],
    exact=Exactness(any="the channels inside each group"),
)
def channel_shuffle(env: Env, x: Value, groups: int) -> Outcome:
    """(g, k) -> (k, g) along the channels, with g a literal."""
    count, own = env.split(x.layouts[1], (groups, x.shape[1] // groups), ("fixed", "width"))
    env.keep(count, "it is a number of groups that the call states")
    return (x.layouts[0], product([own, count]), *x.layouts[2:])


@rule(
    aten.pixel_shuffle.default,
    samples=[Sample(lambda: nn.PixelShuffle(2), (16, 3, 2))],
    exact=Exactness(any="channels", pinned="space"),
)
def pixel_shuffle(env: Env, x: Value, factor: int) -> Outcome:
    """(N, c*r*r, H, W) -> (N, c, H*r, W*r)"""
    area = factor * factor
    channels, block = env.split(x.layouts[-3], (x.shape[-3] // area, area), ("width", "fixed"))
    env.keep(block, "it is a size of space that the call states")
    for layout in x.layouts[-2:]:
        env.keep(layout, "it is a spatial dimension")
    return (*x.layouts[:-3], channels, *(fixed(n) for n in env.outs[0][-2:]))


@rule(
    aten.pixel_unshuffle.default,
    samples=[Sample(lambda: nn.PixelUnshuffle(2))],
    exact=Exactness(any="channels", pinned="space"),
)
def pixel_unshuffle(env: Env, x: Value, factor: int) -> Outcome:
    """(N, c, H*r, W*r) -> (N, c*r*r, H, W)"""
    for layout in x.layouts[-2:]:
        env.keep(layout, "it is a spatial dimension")
    channels = product([x.layouts[-3], fixed(factor * factor)])
    return (*x.layouts[:-3], channels, *(fixed(n) for n in env.outs[0][-2:]))


def _packed(x: Tensor) -> Tensor:
    """The steps of two sequences of 5 and 3 out of x (2, 5, C), as (8, C), averaged."""
    return rnn.pack_padded_sequence(x, torch.tensor([5, 3]), batch_first=True).data.mean(0, keepdim=True)


@rule(
    aten._pack_padded_sequence.default,
    samples=[Sample(lambda: _packed, (5, 8), dim=2)],
    exact=Exactness(any="what each step of a sequence holds", pinned="steps and the batch"),
)
def pack(env: Env, x: Value, lengths: Value, batch_first: bool) -> Outcome:
    """(N, T, *) and the lengths of the sequences -> (their steps one after the other, *), and how many run at each."""
    for layout in x.layouts[:2]:
        env.keep(layout, "steps are picked by their number")
    return [(fixed(env.outs[0][0]), *x.layouts[2:]), (fixed(env.outs[1][0]),)]
