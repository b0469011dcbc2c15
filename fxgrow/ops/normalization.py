"""Normalisation. Per channel (batch, instance): any mapping. Over channels (layer, group): equal replication.

The mean and variance over channels do not change if every channel has the same number of replicas. A group norm may
also grow by whole groups, because each group has its own statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ..layouts.layout import Layout, fixed
from .env import PARTIAL, Env, Outcome, Rows, Value, rows_of
from .registry import Exactness, Sample, rule

aten = torch.ops.aten


class _Statistics(nn.Module):
    """An overload of batch norm, called by name."""

    def __init__(self, op: Any, *constants: Any) -> None:
        super().__init__()
        self.op, self.constants = op, constants
        self.weight, self.bias = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))
        self.register_buffer("running_mean", torch.zeros(8))
        self.register_buffer("running_var", torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.op(x, self.weight, self.bias, self.running_mean, self.running_var, *self.constants)[0]
        return out


class _Standardised(nn.Module):
    """x (N, *, 8) -> (N, *, 6), by a weight whose rows a batch norm standardises."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 8))

    def forward(self, x: Tensor) -> Tensor:
        rows = F.batch_norm(self.weight[None], None, None, training=True)
        return F.linear(x, rows.squeeze(0))


@rule(
    aten.native_batch_norm,
    aten._native_batch_norm_legit,
    aten._native_batch_norm_legit_no_training,
    aten.cudnn_batch_norm,
    aten._batch_norm_no_update,
    aten._batch_norm_with_update,
    samples=[
        Sample(lambda: nn.BatchNorm2d(8)),
        Sample(lambda: nn.BatchNorm1d(8), (8, 12)),
        Sample(lambda: nn.BatchNorm3d(8), (8, 4, 3, 2)),
        Sample(lambda: nn.BatchNorm2d(8, affine=False)),
        Sample(lambda: nn.BatchNorm2d(8, track_running_stats=False)),
        Sample(lambda: lambda x: F.batch_norm(x, None, None, training=True)),
        Sample(lambda: lambda x: F.batch_norm(x, None, None, training=True), (5, 8), dim=2),
        Sample(lambda: nn.BatchNorm1d(5), (5, 8), grows=False, dim=2),
        Sample(_Standardised, (5, 8), dim=2),
        Sample(lambda: lambda x: aten._native_batch_norm_legit.no_stats(x, None, None, True, 0.1, 1e-5)[0]),
        Sample(lambda: _Statistics(aten._native_batch_norm_legit.default, True, 0.1, 1e-5)),
        Sample(lambda: _Statistics(aten._native_batch_norm_legit_no_training.default, 0.1, 1e-5)),
        Sample(lambda: _Statistics(aten._batch_norm_no_update.default, 0.1, 1e-5)),
        Sample(lambda: _Statistics(aten._batch_norm_with_update.default, 0.1, 1e-5)),
    ],
    exact=Exactness(
        any="channels",
        replicas="those without a parameter or a statistic, or without eps; the rows of a weight that it standardises",
        equal="batch and space, without running statistics",
        pinned="batch and space, with running statistics",
    ),
    kinds={"weight": "gain", "bias": "shift", "running_mean": "running_mean", "running_var": "running_var"},
)
def batch_norm(env: Env, x: Value, *args: Any, **kwargs: Any) -> Outcome:
    """(x - mean) / sqrt(var + eps) * weight + bias, per channel; x (N, C, *S), the others (C,)."""
    channels = x.layouts[1]
    for other in args:
        if isinstance(other, Value):
            env.unify(channels, other.layouts[0])
    given = {**dict(zip((a.name for a in env.op._schema.arguments), (x, *args), strict=False)), **kwargs}
    beside = [dim for dim in range(len(x.layouts)) if dim != 1]
    entries = [x.layouts[dim] for dim in beside]
    plain = all(given.get(name) is None for name in ("bias", "running_mean", "running_var"))
    rows = rows_of(env, x, beside) if plain and x.origin else None
    if rows is not None:
        env.keeps_moments(rows, "standardises the rows", 0)
    elif isinstance(given.get("running_var"), Value):
        for layout in entries:
            env.keep(layout, "the running variance is unbiased, so it counts the entries of this dimension")
    else:
        env.uniform(entries, "a batch norm")
    if given.get("eps", given.get("epsilon", 0)) <= 0:
        env.replicas_only(channels, f"a batch norm without eps, which {PARTIAL},")
    one_example = x.shape[0] == 1  # an instance norm is dispatched so, with the batch folded into the channels
    if not one_example and not any(isinstance(other, Value) for other in args):
        env.replicas_only(channels, "a batch norm without parameters, which takes inputs of any rank,")
    env.declare(num_features=channels)
    of_rows = None if rows is None else Rows(rows.origin, rows.over, centred=True)
    normed = Value(x.layouts) if of_rows is None else Value(x.layouts, dims=x.dims, rows=of_rows, moved=x.moved)
    return [normed, *(((channels if n == x.shape[1] else fixed(n)),) for (n, *_) in env.outs[1:])]


@rule(
    aten.native_group_norm,
    samples=[
        Sample(lambda: nn.GroupNorm(4, 8), dim=2),
        Sample(lambda: nn.GroupNorm(1, 8), dim=2),
        Sample(lambda: nn.GroupNorm(8, 8, affine=False)),
        Sample(lambda: lambda x: F.group_norm(x, 2)),
    ],
    sized=(3, 4, 5, 6),
    exact=Exactness(replicas="whole groups", equal="the channels inside each group, and space"),
    kinds={"weight": "gain", "bias": "shift"},
)
def group_norm(
    env: Env,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    n: int,
    c: int,
    space: int,
    group: int,
    eps: float,
) -> Outcome:
    """Each group of channels normalised separately: grows by whole groups, or equally inside each group."""
    channels = x.layouts[1]
    groups, own = env.split(channels, (group, c // group), ("width", "width"))
    env.uniform([own, *x.layouts[2:]], "a group norm")
    if eps <= 0:
        env.replicas_only(x.layouts[0], f"a group norm without eps, which {PARTIAL},")
    env.replicas_only(groups, "a group norm")
    for other in (weight, bias):
        if other is not None:
            env.unify(channels, other.layouts[0])
    env.declare(num_groups=groups, num_channels=channels)
    env.expect(6, groups)
    statistics = (x.layouts[0], groups)
    return [x.layouts, statistics, statistics]


@rule(
    aten.native_layer_norm,
    samples=[
        Sample(lambda: nn.LayerNorm(8), (5, 8), dim=2),
        Sample(lambda: nn.LayerNorm((8, 6, 4))),
        Sample(lambda: nn.LayerNorm(4)),
        Sample(lambda: nn.LayerNorm(8, elementwise_affine=False), (5, 8), dim=2),
    ],
    sized=(1,),
    exact=Exactness(any="the other dimensions", equal="the dimensions normalised over"),
    linear="norm",
    kinds={"weight": "gain", "bias": "shift"},
)
def layer_norm(
    env: Env, x: Value, shape: Sequence[int], weight: Value | None, bias: Value | None, eps: float
) -> Outcome:
    """The last dimensions normalised together: equal replication only."""
    over: tuple[Layout, ...] = x.layouts[len(x.layouts) - len(shape) :]
    env.centred(x, over, weight, bias, eps)
    if eps <= 0:
        for layout in x.layouts[: len(x.layouts) - len(shape)]:
            env.replicas_only(layout, f"a layer norm without eps, which {PARTIAL},")
    for other in (weight, bias):
        if other is not None:
            for a, b in zip(over, other.layouts, strict=True):
                env.unify(a, b)
    env.declare(normalized_shape=list(over))
    statistics = (*x.layouts[: -len(shape)], *(fixed(1) for _ in shape))
    return [x.layouts, statistics, statistics]


@rule(
    aten._weight_norm_interface.default,
    samples=[
        Sample(lambda: nn.Sequential(weight_norm(nn.Conv2d(8, 8, 1)), nn.Conv2d(8, 8, 3, groups=8))),
        Sample(lambda: nn.Sequential(nn.Conv2d(8, 8, 1), weight_norm(nn.Conv2d(8, 16, 3, groups=8)))),
        Sample(lambda: weight_norm(nn.Linear(8, 6), dim=1), (5, 8), grows=False, dim=2),
    ],
    exact=Exactness(
        any="the dimension with one norm per entry, where the weight does not sum over it",
        zero="the dimensions normalised over",
        pinned="the dimension with one norm per entry, where the weight sums over it",
    ),
)
def weight_normalised(env: Env, v: Value, g: Value, dim: int = 0) -> Outcome:
    """g * v / |v|, with one norm for each entry of dim; zeros in v do not change |v|."""
    own = dim % len(v.layouts)
    env.unify(v.layouts[own], g.layouts[own])
    for d in range(len(v.layouts)):
        if d != own:
            env.vanish(v, d, f"takes the norm of {v.origin or 'a weight'} over it")
            env.keep(g.layouts[d], "there is one norm for all of it")
    if v.origin:
        env.nonzero((v.origin, (v.layouts[own],)), f"divides by the norm of {v.origin}")
    return [Value(v.layouts, v.origin, v.dims, zeros=bool(v.origin)), g.layouts]
