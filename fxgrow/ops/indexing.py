"""Parts of a tensor: slices, splits, single entries, tables."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layouts.layout import Layout, concat, fixed
from ..layouts.unify import Inexpressible
from .registry import Env, Exactness, Outcome, Sample, Value, broadcast, rule, tensors

aten = torch.ops.aten

PICKED = "single channels are picked by number"
WRITTEN = "single channels are written to by number"


def with_dim(x: Value, dim: int, layout: Layout) -> tuple[Layout, ...]:
    """x's layouts with one dimension replaced."""
    at = dim % len(x.layouts)
    return (*x.layouts[:at], layout, *x.layouts[at + 1 :])


def pieces(env: Env, layout: Layout, sizes: Sequence[int]) -> list[Layout]:
    """A dimension cut into parts of these sizes (which sum to its own)."""
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
    sized=(3,),  # implied by the start and the shape; the start is expected, or the same,
    exact=Exactness(any="the dimension, cut where the slice begins and ends", pinned="a strided slice"),
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
    ],
    sized=(1,),
    exact=Exactness(any="the dimension, cut into the parts"),
    linear="each",
)
def split(env: Env, x: Value, sizes: int | Sequence[int], dim: int = 0) -> Outcome:
    """Neighbouring parts along dim."""
    parts = pieces(env, x.layouts[dim], [out[dim] for out in env.outs])
    return [x.derived(with_dim(x, dim, part), x.dims) for part in parts]


def without(env: Env, x: Value, dim: int, reason: str) -> tuple[Layout, ...]:
    """x's layouts without a dimension that is indexed entry by entry and so must stay."""
    env.keep(x.layouts[dim], reason)
    at = dim % len(x.layouts)
    return (*x.layouts[:at], *x.layouts[at + 1 :])


@rule(
    aten.select.int,
    samples=[
        Sample(lambda: lambda x: x[:, :, 0]),
        Sample(lambda: lambda x: x[:, 2].unsqueeze(1), grows=False),
    ],
    exact=Exactness(any="the other dimensions", pinned="the dimension indexed"),
    linear="each",
)
def select(env: Env, x: Value, dim: int, index: int) -> Outcome:
    """x[..., index, ...]"""
    return without(env, x, dim, PICKED)


@rule(
    aten.flip.default,
    samples=[Sample(lambda: lambda x: x.flip(2)), Sample(lambda: lambda x: x.flip(1), grows=False)],
    exact=Exactness(any="the other dimensions", pinned="the dimensions reversed"),
    linear="each",
)
def flip(env: Env, x: Value, dims: Sequence[int]) -> Outcome:
    """The other way round along dims, which must stay (the mapping is not symmetric)."""
    for d in dims:
        env.keep(x.layouts[d], "channels are reversed")
    return x.layouts


@rule(
    aten.rot90.default,
    samples=[
        Sample(lambda: lambda x: x.rot90(1, (2, 3))),
        Sample(lambda: lambda x: x.rot90(2, (1, 2)), grows=False),
    ],
    exact=Exactness(any="the other dimensions", pinned="the plane of rotation"),
)
def rot90(env: Env, x: Value, times: int = 1, dims: Sequence[int] = (0, 1)) -> Outcome:
    """Turned in a plane of two dimensions, which must stay."""
    out = list(flip(env, x, dims))
    if times % 2:
        out[dims[0]], out[dims[1]] = out[dims[1]], out[dims[0]]
    return tuple(out)


@rule(
    aten.roll.default,
    samples=[Sample(lambda: lambda x: x.roll(1, 2)), Sample(lambda: lambda x: x.roll(1, 1), grows=False)],
    exact=Exactness(any="the other dimensions", pinned="the dimensions rolled"),
    linear="each",
)
def roll(env: Env, x: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Outcome:
    """Shifted cyclically along dims, which must stay."""
    for d in dims or range(len(x.layouts)):
        env.keep(x.layouts[d], "channels are rolled")
    return x.layouts


@rule(
    aten.index_select.default,
    samples=[
        Sample(lambda: lambda x: x.index_select(2, torch.tensor([3, 0, 0]))),
        Sample(lambda: lambda x: x.index_select(1, torch.tensor([3, 0, 0])), grows=False),
    ],
    exact=Exactness(any="the other dimensions", pinned="the dimension indexed"),
)
def index_select(env: Env, x: Value, dim: int, index: Value) -> Outcome:
    """x[..., index, ...]"""
    env.keep(x.layouts[dim], PICKED)
    return with_dim(x, dim, index.layouts[0])


@rule(
    aten.index.Tensor,
    samples=[
        Sample(lambda: lambda x: x[:, :, torch.tensor([2, 0])]),
        Sample(lambda: lambda x: x[:, torch.tensor([2, 0, 5])], grows=False),
    ],
    exact=Exactness(any="the other dimensions", pinned="the dimensions indexed"),
)
def index(env: Env, x: Value, indices: Sequence[Value | None]) -> Outcome:
    """x[:, i, j]: neighbouring index tensors replace the dimensions that they pick from."""
    used = [d for d, i in enumerate(indices) if i is not None]
    for d in used:
        env.keep(x.layouts[d], PICKED)
    if used != list(range(used[0], used[-1] + 1)) or any(i is not None and i.layouts == () for i in indices):
        raise Inexpressible("index tensors that do not stand side by side")
    picked = broadcast(env, [i for i in indices if i is not None])
    return (*x.layouts[: used[0]], *picked, *x.layouts[used[-1] + 1 :])


def _filled(x: Tensor) -> Tensor:
    x = x.clone()
    x[x > 0.5] = 0.1
    return x


@rule(
    aten.index_put.default,
    aten.index_put_.default,
    samples=[Sample(lambda: _filled)],
    exact=Exactness(any="all dimensions, where a mask of x's shape says which entries get one number", pinned="else"),
)
def index_put(env: Env, x: Value, indices: Sequence[Value | None], source: Value, *args: object) -> Outcome:
    """x[mask] = number"""
    mask = indices[0]
    one_number = all(n == 1 for n in source.shape)
    if len(indices) != 1 or mask is None or env.dtypes[1] != torch.bool or mask.shape != x.shape or not one_number:
        raise Inexpressible("channels are written by number")
    broadcast(env, [x, mask])
    return x.layouts


@rule(
    aten.gather.default,
    samples=[
        Sample(lambda: lambda x: x.gather(2, torch.zeros_like(x, dtype=torch.int64))),
        Sample(lambda: lambda x: x.gather(1, torch.zeros_like(x, dtype=torch.int64)), grows=False),
    ],
    exact=Exactness(any="the other dimensions", pinned="the dimension indexed"),
)
def gather(env: Env, x: Value, dim: int, index: Value, **kwargs: object) -> Outcome:
    """out[i][j] = x[index[i][j]][j] along dim"""
    at = dim % len(x.layouts)
    env.keep(x.layouts[at], PICKED)
    for d, (a, b) in enumerate(zip(x.layouts, index.layouts, strict=True)):
        if d != at:
            env.unify(a, b)
    return index.layouts


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
    """Windows along a dimension, which become a last one."""
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
    """Zero on one side of a diagonal of the last two dimensions."""
    for layout in x.layouts[-2:]:
        env.keep(layout, "a diagonal runs through it")
    return x.layouts


class _Looked(nn.Module):
    """An embedding of constant indices, added to the activation."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table(torch.tensor([3, 1, 1]))  # (3, 8)


@rule(
    aten.embedding.default,
    samples=[Sample(_Looked, (3, 8), dim=2)],
    exact=Exactness(any="the features of the table", pinned="its rows"),
    linear="each",
)
def embedding(env: Env, table: Value, index: Value, *args: object, **kwargs: object) -> Outcome:
    """out[..., e] = table[index[...], e]"""
    env.keep(table.layouts[0], "rows of a table are looked up by number")
    env.declare(embedding_dim=table.layouts[1])
    return (*index.layouts, table.layouts[1])


def _written(env: Env, x: Value, dim: int, index: Value, source: Value | None) -> tuple[Layout, ...]:
    """x with entries along dim written by number: that dimension stays, the others are those of what is written."""
    at = dim % len(x.layouts)
    env.keep(x.layouts[at], WRITTEN)
    for other in (index, source):
        if other is not None and len(other.layouts) == len(x.layouts):
            env.keep(other.layouts[at], WRITTEN)
            for d, (a, b) in enumerate(zip(x.layouts, other.layouts, strict=True)):
                if d != at:
                    env.unify(a, b)
        elif other is not None:  # one index for all other dimensions, or one number for all entries
            for layout in other.layouts:
                env.keep(layout, WRITTEN)
    return x.layouts


class _Bag(nn.Module):
    """The mean of some rows of a table, added to the activation."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(5, 8, mode=mode)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table(torch.tensor([[3, 1, 1]]))  # (1, 8)


@rule(
    aten._embedding_bag.default,
    samples=[Sample(lambda: _Bag("mean"), (3, 8), dim=2), Sample(lambda: _Bag("max"), (3, 8), dim=2)],
    exact=Exactness(any="the features of the table", pinned="its rows"),
)
def embedding_bag(env: Env, table: Value, *args: object) -> Outcome:
    """out[b, e] = sum, mean or maximum of table[index[i], e] over the i of bag b"""
    for layout in (table.layouts[0], *(layout for other in tensors(args) for layout in other.layouts)):
        env.keep(layout, "rows of a table are looked up by number")
    env.declare(embedding_dim=table.layouts[1])
    features = table.layouts[1]
    return [tuple([features if d == 1 else fixed(n) for d, n in enumerate(out)]) for out in env.outs]


@rule(
    aten.scatter.src,
    aten.scatter.value,
    aten.scatter_.src,
    aten.scatter_.value,
    aten.scatter_add.default,
    aten.scatter_add_.default,
    samples=[
        Sample(lambda: lambda x: x.scatter(2, torch.zeros_like(x, dtype=torch.int64), x)),
        Sample(lambda: lambda x: x.scatter_add(1, torch.zeros_like(x, dtype=torch.int64), x), grows=False),
        Sample(lambda: lambda x: F.softmax(x, 2) * torch.zeros_like(x).scatter_(2, x.argmax(2, keepdim=True), 1.0)),
    ],
    exact=Exactness(any="the other dimensions", pinned="the dimension written to by number"),
)
def scatter(env: Env, x: Value, dim: int, index: Value, source: Value | float, **kwargs: object) -> Outcome:
    """out[index[i][j]][j] = source[i][j] along dim"""
    return _written(env, x, dim, index, source if isinstance(source, Value) else None)


@rule(
    aten.index_add.default,
    aten.index_add_.default,
    aten.index_copy.default,
    aten.index_copy_.default,
    aten.index_fill.int_Scalar,
    aten.index_fill_.int_Scalar,
    samples=[
        Sample(lambda: lambda x: x.index_add(2, torch.tensor([3, 0]), x[:, :, :2])),
        Sample(lambda: lambda x: x.index_copy(1, torch.tensor([3, 0]), x[:, 1:3]), grows=False),
        Sample(lambda: lambda x: x.index_fill(1, torch.tensor([3, 0]), 0.5), grows=False),
    ],
    exact=Exactness(any="the other dimensions", pinned="the dimension written to by number"),
)
def index_write(env: Env, x: Value, dim: int, index: Value, source: Value | float, **kwargs: object) -> Outcome:
    """out[..., index, ...] = source"""
    return _written(env, x, dim, index, source if isinstance(source, Value) else None)
