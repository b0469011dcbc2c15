"""Reductions. Over a dimension that grows, a mean is exact for equal replication, a maximum for any mapping of
replicas, a sum for none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layouts.layout import Layout, is_fixed
from .env import PARTIAL, Env, Outcome, Rows, Value, left, reduced, rows_of
from .registry import Exactness, Sample, rule

aten = torch.ops.aten


def _length(x: Value, out: tuple[Layout, ...]) -> Value:
    """A norm or a sum without negative terms, which is zero only if all its terms are."""
    return Value(out, nonnegative=True, length=(x.origin, out) if x.origin else None)


class _Weighed(nn.Module):
    """x (N, *, 8) -> (N, *, 8), by a function of a weight."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.function = nn.Parameter(torch.randn(8, 8)), function

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.function(self.weight))


def _by_weight(function: Callable[[Tensor], Tensor], *, grows: bool = True) -> Sample:
    return Sample(lambda: _Weighed(function), (5, 8), dim=2, grows=grows)


@rule(
    aten.mean.default,
    aten.mean.dim,
    samples=[
        Sample(lambda: lambda x: x.mean((2, 3))),
        Sample(lambda: lambda x: x * x.mean(1, keepdim=True)),
        Sample(lambda: lambda x: x + x.mean()),
        Sample(lambda: nn.RMSNorm(8), (5, 8), dim=2),
        Sample(lambda: nn.RMSNorm((8, 6, 4), elementwise_affine=False)),
        _by_weight(lambda w: w - w.mean(1, keepdim=True)),
        _by_weight(lambda w: w - 2 * w.mean(1, keepdim=True), grows=False),
    ],
    exact=Exactness(
        any="the other dimensions",
        replicas="the rows of a weight that is summed over less their mean",
        equal="the dimensions averaged over",
        pinned="the rows of a weight that is used otherwise",
    ),
    linear="each",
)
def mean(env: Env, x: Value, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Outcome:
    """The mean over channels; unchanged if every channel has the same number of replicas, or the rows of a weight are
    filled so that theirs stays the same.
    """
    gone = reduced(x, dim)
    rows = rows_of(env, x, gone)
    if rows is not None and not (x.rows is not None and x.rows.centred):
        return _means(x, gone, rows, keepdim)
    env.uniform([x.layouts[d] for d in gone], "a mean over channels")
    return left(x, gone, keepdim)


def _means(x: Value, gone: Sequence[int], rows: Rows, keepdim: bool) -> Value:
    """The means of the rows of a weight, or of means of its rows."""
    over = rows.over | (x.rows.over if x.rows is not None else frozenset())
    dims = tuple([() if d in gone else own for d, own in enumerate(x.dims) if keepdim or d not in gone])
    return Value(left(x, gone, keepdim), dims=dims, rows=Rows(rows.origin, over, centred=False), moved=x.moved)


@rule(
    aten.var.correction,
    aten.std.correction,
    samples=[
        Sample(lambda: lambda x: x * x.var(1, correction=0, keepdim=True)),
        Sample(lambda: lambda x: x * x.var(1, keepdim=True), grows=False),
        Sample(lambda: lambda x: x * x.var((2, 3), keepdim=True)),
        Sample(lambda: lambda x: x * (1 + x.std((2, 3), keepdim=True))),
        _by_weight(lambda w: (w - w.mean(1, keepdim=True)) / (1 + w.var(1, keepdim=True))),
        _by_weight(lambda w: w / (1 + w.var(1, keepdim=True)), grows=False),
    ],
    exact=Exactness(
        any="the other dimensions",
        replicas="those of a standard deviation, whose slope is infinite where all entries are equal; the rows of a "
        "weight that is summed over less their mean",
        equal="the dimensions averaged over",
        pinned="the same with Bessel's correction",
    ),
)
def variance(env: Env, x: Value, dim: Any = None, *, correction: float | None = None, keepdim: bool = False) -> Outcome:
    """The variance; with Bessel's correction it depends on the number of channels."""
    gone = reduced(x, dim)
    rows = rows_of(env, x, gone)
    if rows is not None and (x.rows is None or (x.rows.centred and x.rows.over == rows.over)):
        env.keeps_moments(rows, "takes the variance of the rows", 1 if correction is None else correction)
        env.leave_out(x, gone)
    elif correction == 0:
        env.uniform([x.layouts[d] for d in gone], "a variance over channels")
    else:
        for d in gone:
            env.keep(x.layouts[d], "an unbiased variance over channels depends on their number")
    out = left(x, gone, keepdim)
    if env.name.startswith("std"):
        for layout in out:
            env.replicas_only(layout, f"a standard deviation, which {PARTIAL},")
    return Value(out, nonnegative=True)


@rule(
    aten.var_mean.correction,
    aten.std_mean.correction,
    samples=[
        Sample(lambda: lambda x: x - torch.var_mean(x, 1, correction=0, keepdim=True)[1]),
        Sample(lambda: lambda x: x - torch.var_mean(x, (2, 3), keepdim=True)[0]),
        Sample(lambda: lambda x: x - torch.std_mean(x, (2, 3), keepdim=True)[0]),
        _by_weight(lambda w: (w - (both := torch.var_mean(w, 1, keepdim=True))[1]) / (1 + both[0])),
    ],
    exact=Exactness(
        any="the other dimensions",
        replicas="those of a standard deviation; the rows of a weight that is summed over less their mean",
        equal="the dimensions averaged over",
        pinned="the same with Bessel's correction",
    ),
)
def variance_and_mean(
    env: Env, x: Value, dim: Any = None, *, correction: float | None = None, keepdim: bool = False
) -> Outcome:
    """(variance, mean)"""
    return [variance(env, x, dim, correction=correction, keepdim=keepdim), mean(env, x, dim, keepdim)]


@rule(
    aten.amax,
    aten.amin,
    aten.max.default,
    aten.min.default,
    aten.all,
    aten.any,
    samples=[
        Sample(lambda: lambda x: x.amax((2, 3))),
        Sample(lambda: lambda x: x * x.amax(1, keepdim=True)),
        Sample(lambda: lambda x: x + x.max()),
        Sample(lambda: lambda x: x + x.amin(2, keepdim=True)),
        Sample(lambda: lambda x: x + x.min()),
        Sample(lambda: lambda x: x * (x > 0).all(2, keepdim=True) + (x > 0).any(2, keepdim=True)),
        Sample(lambda: lambda x: x * (x > 0).all((2, 3), keepdim=True) + (x > 0).any((2, 3), keepdim=True)),
        Sample(lambda: lambda x: x * (x > -9).all() + (x > 0).any()),
        _by_weight(lambda w: w / w.abs().amax(1, keepdim=True)),
    ],
    exact=Exactness(
        any="the other dimensions",
        replicas="the dimensions reduced",
        zero="those of the absolute values of a weight, for a maximum",
    ),
)
def extreme(env: Env, x: Value, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Outcome:
    """The maximum or minimum; replicas do not change it, nor do zeros the maximum of what is never negative."""
    gone = reduced(x, dim)
    of_weight = bool(x.origin) and x.nonnegative and env.name in ("amax", "max")
    for d in gone:
        if of_weight:
            env.vanish(x, d, f"takes the maximum over a dimension of {x.origin}")
        else:
            env.replicas_only(x.layouts[d], "a maximum over channels")
    out = left(x, gone, keepdim)
    return _length(x, out) if of_weight else Value(out, extreme=tuple(x.layouts[d] for d in gone))


@rule(
    aten.max.dim,
    aten.min.dim,
    samples=[
        Sample(lambda: lambda x: x * x.max(1, keepdim=True)[0]),
        Sample(lambda: lambda x: x.min(2)[0]),
        Sample(lambda: lambda x: x + x.max(1, keepdim=True)[1], grows=False),
    ],
    exact=Exactness(
        any="the other dimensions", replicas="the dimension reduced", pinned="the same, where indices are used"
    ),
)
def extreme_with_index(env: Env, x: Value, dim: int, keepdim: bool = False) -> Outcome:
    """(values, indices); replicas do not change the values, but the indices."""
    values = extreme(env, x, dim, keepdim)
    layouts = values.layouts if isinstance(values, Value) else tuple(values)
    return [values, Value(layouts, invalid=(x.layouts[dim],))]


@rule(
    aten.aminmax.default,
    samples=[
        Sample(lambda: lambda x: x - x.aminmax(dim=1, keepdim=True)[0]),
        Sample(lambda: lambda x: x.aminmax(dim=2)[1]),
    ],
    exact=Exactness(any="the other dimensions", replicas="the dimensions reduced"),
)
def extremes(env: Env, x: Value, *, dim: int | None = None, keepdim: bool = False) -> Outcome:
    """(minimum, maximum)"""
    out = extreme(env, x, dim, keepdim)
    return [out, out]


def _over(env: Env, x: Value, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[int, ...], bool]:
    """The dimensions that a reduction runs over, and whether they are kept with size 1."""
    names = [a.name for a in env.op._schema.arguments]  # the positions of `dim` and `keepdim` differ
    given = {**dict(zip(names[1:], args, strict=False)), **kwargs}
    return reduced(x, given.get("dim")), bool(given.get("keepdim", False))


def _total(
    env: Env, x: Value, args: tuple[Any, ...], kwargs: dict[str, Any], *, ignores_zeros: bool
) -> tuple[Layout, ...]:
    """The layouts of a reduction whose result depends on the channels; zeros in a weight may not change it."""
    gone, keep = _over(env, x, args, kwargs)
    for d in gone:
        if ignores_zeros and x.origin:
            env.vanish(x, d, f"sums over a dimension of {x.origin}")
        else:
            env.keep(x.layouts[d], "its result over channels depends on their number")
    return left(x, gone, keep)


@rule(
    aten.sum.default,
    aten.sum.dim_IntList,
    samples=[
        Sample(lambda: lambda x: x * x.sum((2, 3), keepdim=True)),
        Sample(lambda: lambda x: x.sum(2)),
        Sample(lambda: lambda x: x * x.sum(1, keepdim=True), grows=False),
        Sample(lambda: lambda x: x * x.sum(), grows=False),
        Sample(lambda: lambda x: x * (x.sum(1, keepdim=True) / x.shape[1])),
        Sample(lambda: lambda x: x * (x.sum(1, keepdim=True) / 8), grows=False),
        Sample(lambda: lambda x: x * (x.sum(1, keepdim=True) / (x.shape[1] + 1)), grows=False),
        Sample(lambda: lambda x: x + x.sum() / x.numel()),
        _by_weight(lambda w: w / (1 + (w * w).sum(1, keepdim=True)).sqrt()),
    ],
    exact=Exactness(
        any="the other dimensions",
        equal="the dimensions summed over, where the sum is divided by their size",
        zero="the dimensions of a weight that are summed over",
        pinned="those of an activation",
    ),
    linear="each",
)
def total(env: Env, x: Value, *args: Any, **kwargs: Any) -> Outcome:
    """The sum over channels, which depends on their number; zeros in a weight do not change it.

    Divided by the number of channels it is a mean.
    """
    gone, keep = _over(env, x, args, kwargs)
    sums = tuple([x.layouts[d] for d in gone])
    if not x.origin and not all(map(is_fixed, sums)):
        return Value(left(x, gone, keep), nonnegative=x.nonnegative, sums=sums)
    if x.origin and not x.zeros and all(map(is_fixed, sums)):  # a mixture of weights is one
        dims = [() if d in gone else own for d, own in enumerate(x.dims) if keep or d not in gone]
        return replace(x.derived(left(x, gone, keep), dims), scaled=True, away=False)
    out = _total(env, x, args, kwargs, ignores_zeros=True)
    return _length(x, out) if x.nonnegative else out


@rule(
    aten.nansum.default,
    aten.prod.default,
    aten.prod.dim_int,
    aten.median.default,
    aten.count_nonzero,
    aten.linalg_vector_norm,
    aten.norm.Scalar,
    aten.norm.ScalarOpt_dim,
    aten.logsumexp,
    aten.argmax,
    aten.argmin,
    samples=[
        Sample(lambda: lambda x: F.normalize(x, dim=1), grows=False),
        Sample(lambda: lambda x: x * torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)),
        Sample(lambda: lambda x: x * x.argmax(1, keepdim=True), grows=False),
        Sample(lambda: lambda x: x * x.prod(), grows=False),
        Sample(lambda: lambda x: x.nansum((2, 3))),
        Sample(lambda: lambda x: x * x.prod(2, keepdim=True) + x.logsumexp((2, 3), keepdim=True)),
        Sample(lambda: lambda x: x * aten.norm.ScalarOpt_dim(x, 2, [2], True)),
        Sample(lambda: lambda x: x * torch.linalg.vector_norm(x, 0.5, dim=2, keepdim=True)),
        Sample(lambda: lambda x: x * x.argmin(2, keepdim=True) + x.count_nonzero((2, 3))[:, :, None, None]),
        Sample(lambda: lambda x: x * aten.norm.Scalar(x, 2), grows=False),
        _by_weight(lambda w: w / w.norm(dim=1, keepdim=True)),
        Sample(lambda: lambda x: x * x.median() + x.count_nonzero(), grows=False),
    ],
    exact=Exactness(
        any="the other dimensions",
        replicas="the same, for a norm of an order below 1",
        zero="the dimensions of a weight that its norm is taken over",
        pinned="the dimensions reduced",
    ),
)
def whole(env: Env, x: Value, *args: Any, **kwargs: Any) -> Outcome:
    """A product, norm, count or position over channels, which depends on their number. Not linear in the channels.

    The norm of a weight is the same with zeros in it.
    """
    order = args[0] if args and args[0] is not None else 2
    is_norm = "norm" in env.name and isinstance(order, int | float) and (order >= 1 or order == 0)
    out = _total(env, x, args, kwargs, ignores_zeros=is_norm)
    if is_norm:
        definite = not x.zeros or x.nonnegative  # relu(w) is zero where w is not
        return _length(x, out) if order >= 1 and definite else out
    if "norm" in env.name:
        for layout in out:
            env.replicas_only(layout, f"{env.name} of order {order}, which {PARTIAL},")
    return out
