"""Reads and writes by index: single entries, gather and scatter, look-up tables.

The dimension that indices refer to is pinned, because a mapping of channels would change what they select.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layouts.layout import Layout, fixed, is_fixed
from ..layouts.unify import Inexpressible
from .env import POSITIONS, Env, Outcome, Value, broadcast, tensors
from .registry import Exactness, Sample, rule

aten = torch.ops.aten

PICKED = "single channels are picked by number"
WRITTEN = "single channels are written to by number"


def _positions(env: Env, *indices: Value) -> None:
    """New channels of an index must be replicas: other values may lie outside of what is indexed."""
    for layout in dict.fromkeys(layout for index in indices if not index.constant for layout in index.layouts):
        if not is_fixed(layout):
            env.replicas_only(layout, f"{env.name}, which {POSITIONS},")


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
    env.keep(x.layouts[dim], PICKED)
    return _in_place_of(x, dim, ())


def _in_place_of(x: Value, dim: int, new: Sequence[Layout], last: int | None = None) -> Value:
    """Some entries of x, with these dimensions in place of one, or of those up to another; of a weight, still weights.

    What is left of rows that are standardised is no row.
    """
    first = dim % len(x.layouts)
    end = (first if last is None else last) + 1
    layouts = (*x.layouts[:first], *new, *x.layouts[end:])
    picked = {source for sources in x.dims[first:end] for source in sources}
    if x.rows is not None and picked & x.rows.over:
        return Value(layouts)
    return x.derived(layouts, (*x.dims[:first], *[()] * len(new), *x.dims[end:]) if x.dims else ())


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
    _positions(env, index)
    return _in_place_of(x, dim, index.layouts)


@rule(
    aten.index.Tensor,
    samples=[
        Sample(lambda: lambda x: x[:, :, torch.tensor([2, 0])]),
        Sample(lambda: lambda x: x[:, torch.tensor([2, 0, 5])], grows=False),
        Sample(lambda: lambda x: torch.tensor([0.5, -2.0], dtype=x.dtype)[(x > 0).long()]),
        Sample(lambda: lambda x: x[:, torch.tensor([True, False, True])], (3, 8), dim=2),
        Sample(lambda: lambda x: x[:, torch.arange(8) % 3 == 0], grows=False),
    ],
    exact=Exactness(any="the other dimensions", replicas="the index", pinned="the dimensions indexed"),
)
def index(env: Env, x: Value, indices: Sequence[Value | None]) -> Outcome:
    """x[:, i, j]: index tensors of adjacent dimensions replace these dimensions; so does a mask of their sizes."""
    if torch.bool in env.dtypes[1:]:
        return _selected(env, x, indices)
    used = [d for d, i in enumerate(indices) if i is not None]
    for d in used:
        env.keep(x.layouts[d], PICKED)
    if used != list(range(used[0], used[-1] + 1)) or any(i is not None and i.layouts == () for i in indices):
        raise Inexpressible("index tensors of dimensions that are not adjacent")
    chosen = [i for i in indices if i is not None]
    _positions(env, *chosen)
    return _in_place_of(x, used[0], broadcast(env, chosen), used[-1])


def _selected(env: Env, x: Value, indices: Sequence[Value | None]) -> Outcome:
    """x[:, mask]: the entries that a mask selects, as one dimension."""
    given = [(at, one) for at, one in enumerate(indices) if one is not None]
    if len(given) != 1:
        raise Inexpressible("a mask beside another index")
    [(first, mask)] = given
    end = first + len(mask.layouts)
    if mask.shape != x.shape[first:end]:
        raise Inexpressible("a mask has another shape than what it selects from")
    for mine, its in zip(x.layouts[first:end], mask.layouts, strict=True):
        env.unify(mine, its)
        env.keep(mine, PICKED)
    return (*x.layouts[:first], fixed(env.outs[0][first]), *x.layouts[end:])


def _first(x: Tensor) -> Tensor:
    """An index of zeros in x's shape, which depends on no numbers."""
    return torch.zeros(1, 1, 1, 1, dtype=torch.int64).expand(x.shape)


def _filled(x: Tensor) -> Tensor:
    x = x.clone()
    x[x > 0.5] = 0.1
    return x


def _rows_filled(x: Tensor) -> Tensor:
    x = x.clone()
    x[torch.tensor([[True, False, True], [False, False, True]])] = 0.1
    return x


def _rows_written(x: Tensor) -> Tensor:
    mask = torch.tensor([[True, False, True], [False, False, True]])
    return x.index_put((mask,), x[mask].tanh())


def _channels_written(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, torch.arange(8) > 3] = x[:, 4:].tanh()
    return x


class _Masked(nn.Module):
    """Writes a learned vector where a mask over words says so, as masked models do."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        x[torch.tensor([[True, False, True], [False, False, True]])] = self.token
        return x


@rule(
    aten.index_put.default,
    aten.index_put_.default,
    samples=[
        Sample(lambda: _filled),
        Sample(lambda: lambda x: x.index_put((x > 0.5,), torch.tensor(0.1, dtype=x.dtype))),
        Sample(lambda: _rows_filled, (3, 8), dim=2),
        Sample(lambda: _rows_written, (3, 8), dim=2),
        Sample(lambda: _channels_written, grows=False),
        Sample(_Masked, (3, 8), dim=2),
    ],
    exact=Exactness(
        any="all dimensions, if one mask selects entries, and one value or one for each index behind it is written",
        pinned="those that the mask selects from, if a value is written for each of its entries; all otherwise",
    ),
)
def index_put(env: Env, x: Value, indices: Sequence[Value | None], source: Value, *args: object) -> Outcome:
    """x[mask] = value, x[:, mask] = value: a mask takes the place of as many dimensions as it has"""
    first = next((at for at, one in enumerate(indices) if one is not None), 0)
    mask = indices[first] if indices else None
    if len(indices) != first + 1 or mask is None or env.dtypes[1] != torch.bool:
        raise Inexpressible("channels are written by number")
    end = first + len(mask.layouts)
    if mask.shape != x.shape[first:end]:
        raise Inexpressible("a mask has another shape than what it selects from")
    for mine, its in zip(x.layouts[first:end], mask.layouts, strict=True):
        env.unify(mine, its)
    places = [*x.layouts[:first], None, *x.layouts[end:]]  # None: the entries that the mask selects
    if len(source.layouts) > len(places):
        raise Inexpressible("more is written than the mask selects")
    for size, layout, place in zip(source.shape[::-1], source.layouts[::-1], places[::-1], strict=False):
        if size != 1 and place is not None:
            env.unify(layout, place)
        elif size != 1:  # of what grows there are more entries to select
            for each in (layout, *x.layouts[first:end]):
                env.keep(each, "a value is written for each entry that a mask selects")
        elif size == 1:
            env.keep(layout, "it is broadcast")
    return x.layouts


@rule(
    aten.gather.default,
    samples=[
        Sample(lambda: lambda x: x.gather(2, _first(x))),
        Sample(lambda: lambda x: x.gather(2, (x > 0).long())),
        Sample(lambda: lambda x: x.gather(1, _first(x)), grows=False),
    ],
    exact=Exactness(
        any="the other dimensions, for an index that is a constant",
        replicas="the other dimensions",
        pinned="the dimension indexed",
    ),
)
def gather(env: Env, x: Value, dim: int, index: Value, **kwargs: object) -> Outcome:
    """out[i][j] = x[index[i][j]][j] along dim"""
    at = dim % len(x.layouts)
    env.keep(x.layouts[at], PICKED)
    _positions(env, index)
    for d, (a, b) in enumerate(zip(x.layouts, index.layouts, strict=True)):
        if d != at:
            env.unify(a, b)
    return index.layouts


class _Looked(nn.Module):
    """Adds the embeddings of constant indices to the activation."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table(torch.tensor([3, 1, 1]))  # (3, 8)


@rule(
    aten.embedding.default,
    samples=[
        Sample(_Looked, (3, 8), dim=2),
        Sample(lambda: lambda x: F.embedding((x > 0).long(), torch.eye(2, 3, dtype=x.dtype))),
    ],
    exact=Exactness(any="the features of the table", replicas="the index", pinned="its rows"),
    linear="each",
)
def embedding(env: Env, table: Value, index: Value, *args: object, **kwargs: object) -> Outcome:
    """out[..., e] = table[index[...], e]"""
    env.keep(table.layouts[0], "rows of a table are looked up by number")
    env.declare(embedding_dim=table.layouts[1])
    _positions(env, index)
    return (*index.layouts, table.layouts[1])


def _written(env: Env, x: Value, dim: int, index: Value, source: Value | None) -> tuple[Layout, ...]:
    """x with entries along dim written by index: dim is pinned, the other dimensions are unified with the source."""
    at = dim % len(x.layouts)
    env.keep(x.layouts[at], WRITTEN)
    _positions(env, index)
    for other in (index, source):
        if other is not None and len(other.layouts) == len(x.layouts):
            env.keep(other.layouts[at], WRITTEN)
            for d, (a, b) in enumerate(zip(x.layouts, other.layouts, strict=True)):
                if d != at:
                    env.unify(a, b)
        elif other is not None:  # one index for all other dimensions, or one value for all entries
            for layout in other.layouts:
                env.keep(layout, WRITTEN)
    return x.layouts


class _Bag(nn.Module):
    """Adds a reduction of some rows of a table to the activation."""

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
        Sample(lambda: lambda x: x.scatter(2, _first(x), x)),
        Sample(lambda: lambda x: x.scatter(2, _first(x), 0.5).clone().scatter_(2, _first(x) + 1, x)),
        Sample(lambda: lambda x: x.clone().scatter_add_(2, _first(x), x)),
        Sample(lambda: lambda x: x.scatter_add(1, _first(x), x), grows=False),
        Sample(lambda: lambda x: F.softmax(x, 2) * torch.zeros_like(x).scatter_(2, x.argmax(2, keepdim=True), 1.0)),
    ],
    exact=Exactness(
        any="the other dimensions, for an index that is a constant",
        replicas="the other dimensions",
        pinned="the dimension written to by number",
    ),
)
def scatter(env: Env, x: Value, dim: int, index: Value, source: Value | float, **kwargs: object) -> Outcome:
    """out[index[i][j]][j] = source[i][j] along dim"""
    return _written(env, x, dim, index, source if isinstance(source, Value) else None)


def _reduced_by(reduce: str) -> Callable[[Tensor], Tensor]:
    """Entries are reduced where an index says, as messages of a graph's edges are at its nodes."""

    def reduced(x: Tensor) -> Tensor:
        source = x[:, :, :3].tanh()
        index = _first(source)
        y = x.scatter_reduce(2, index, source, reduce, include_self=False)
        return y.clone().scatter_reduce_(2, index, source, reduce)

    return reduced


@rule(
    aten.scatter_reduce.two,
    aten.scatter_reduce_.two,
    samples=[
        *(Sample(partial(_reduced_by, reduce)) for reduce in ("sum", "mean", "amax", "amin")),
        Sample(lambda: lambda x: x.scatter_reduce(2, x.argmax(2, keepdim=True), x[:, :, :1], "amax")),
        Sample(lambda: lambda x: x.scatter_reduce(2, _first(x), x, "prod"), grows=False),
        Sample(lambda: lambda x: x.scatter_reduce(1, _first(x), x, "amax"), grows=False),
    ],
    exact=Exactness(
        any="the other dimensions, for an index that is a constant",
        replicas="the other dimensions",
        pinned="the dimension written to by number, and all for products",
    ),
)
def scatter_reduce(env: Env, x: Value, dim: int, index: Value, source: Value, reduce: str, **kwargs: object) -> Outcome:
    """out[index[i]] = the sum, mean, maximum or minimum of the source[i] along dim"""
    if reduce == "prod":
        for layout in (*x.layouts, *source.layouts):
            env.keep(layout, "a product of entries may be infinite")
    return _written(env, x, dim, index, source)


def _written_in_place(x: Tensor) -> Tensor:
    at = torch.tensor([3, 0])
    return x.clone().index_add_(2, at, x[:, :, :2]).index_copy_(2, at + 1, x[:, :, 2:4]).index_fill_(2, at + 2, 0.5)


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
        Sample(lambda: _written_in_place),
    ],
    exact=Exactness(any="the other dimensions", pinned="the dimension written to by number"),
)
def index_write(env: Env, x: Value, dim: int, index: Value, source: Value | float, **kwargs: object) -> Outcome:
    """out[..., index, ...] = source"""
    return _written(env, x, dim, index, source if isinstance(source, Value) else None)
