"""Random numbers. A wider tensor draws different numbers, so results are equal in distribution only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .env import Env, Outcome, Value
from .registry import Exactness, Sample, rule

aten = torch.ops.aten

DROPOUT = "in train mode dropout draws other masks for the wider tensor (eval mode is exact)"


class _InTraining(nn.Module):
    """A function of the activation in train mode, the activation in eval mode."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x) if self.training else x


def _masked(env: Env, x: Value) -> None:
    """Note that train mode draws other masks; pin the dimensions if a mask is drawn in eval mode."""
    env.note(x.layouts, DROPOUT)
    if env.mode == "eval":
        for layout in x.layouts:
            env.keep(layout, "random numbers are drawn for each channel, in eval mode, too")


@rule(
    aten.bernoulli_.float,
    aten.bernoulli.p,
    aten.bernoulli.default,
    samples=[
        Sample(lambda: nn.Dropout(0.3)),
        Sample(lambda: nn.Dropout2d(0.3)),
        Sample(lambda: lambda x: F.dropout2d(x, 0.3, training=True), grows=False),
        Sample(lambda: _InTraining(lambda x: x * torch.bernoulli(x, 0.3))),
        Sample(lambda: _InTraining(lambda x: x * torch.bernoulli(x.sigmoid()))),
    ],
    exact=Exactness(
        any="every dimension, except for the random masks",
        replicas="the same, where probabilities are given for each entry",
        pinned="masks drawn in eval mode",
    ),
    linear="alike",
)
def bernoulli(env: Env, x: Value, *args: Any, **kwargs: Any) -> Outcome:
    """A random mask, drawn per entry: equal in distribution only."""
    _masked(env, x)
    if env.op is aten.bernoulli.default and not x.constant:
        for layout in x.layouts:
            env.replicas_only(layout, "bernoulli, which takes values from 0 to 1 only,")
    return x.layouts


@rule(
    aten.native_dropout,
    samples=[Sample(lambda: _InTraining(lambda x: aten.native_dropout(x, 0.3, True)[0]))],
    exact=Exactness(any="every dimension, except for the random masks"),
)
def native_dropout(env: Env, x: Value, *args: Any, **kwargs: Any) -> Outcome:
    """(masked x, mask)"""
    _masked(env, x)
    return [x.layouts, x.layouts]


@rule(
    aten.rand_like.default,
    aten.randn_like.default,
    aten.randint_like.default,
    aten.randint_like.low_dtype,
    aten.poisson.default,
    aten.exponential_.default,
    aten.random_.default,
    aten.random_.to,
    getattr(aten.random_, "from"),
    aten.normal_.default,
    aten.uniform_.default,
    samples=[
        Sample(lambda: lambda x: x + 0 * torch.rand_like(x), grows=False),
        Sample(lambda: lambda x: x + 0 * torch.empty_like(x).exponential_(), grows=False),
        Sample(lambda: lambda x: x + 0 * (torch.randn_like(x) + torch.poisson(x.abs())), grows=False),
        Sample(lambda: lambda x: x + 0 * torch.randint_like(x, 5) * torch.randint_like(x, 2, 5), grows=False),
        Sample(lambda: lambda x: x + 0 * torch.zeros_like(x).normal_().uniform_(), grows=False),
        Sample(lambda: lambda x: x + 0 * torch.zeros_like(x).random_().random_(5).random_(2, 5), grows=False),
    ],
    exact=Exactness(pinned="every dimension"),
)
def noise(env: Env, x: Value, *args: Any, **kwargs: Any) -> Outcome:
    """Random values, drawn per entry: replicas would differ, so the width is pinned."""
    for layout in x.layouts:
        env.keep(layout, "noise is drawn for each channel")
    return x.layouts


@rule(
    aten.rrelu_with_noise,
    aten.rrelu_with_noise_,
    samples=[Sample(lambda: nn.RReLU()), Sample(lambda: lambda x: F.rrelu(x.clone(), inplace=True))],
    exact=Exactness(any="every dimension, except for the random slopes"),
)
def rrelu(
    env: Env,
    x: Value,
    noise: Value,
    lower: float = 0.125,
    upper: float = 0.333,
    training: bool = False,
    *args: Any,
) -> Outcome:
    """Leaky ReLU; in train mode the slope is drawn per entry."""
    if training:
        _masked(env, x)
    for a, b in zip(x.layouts, noise.layouts, strict=True):
        env.unify(a, b)
    return x.layouts


@rule(
    aten.rand.default,
    aten.randn.default,
    aten.randint.default,
    aten.randint.low,
    aten.randperm.default,
    samples=[
        Sample(lambda: lambda x: x + 0 * torch.rand(8, 1, 1, dtype=x.dtype), grows=False),
        Sample(lambda: lambda x: x + 0 * torch.randn(8, 1, 1, dtype=x.dtype), grows=False),
        Sample(lambda: lambda x: x + 0 * torch.randint(5, (8, 1, 1)) * torch.randint(2, 5, (8, 1, 1)), grows=False),
        Sample(lambda: lambda x: x + 0 * torch.randperm(8).view(8, 1, 1), grows=False),
    ],
    exact=Exactness(pinned="every dimension"),
)
def drawn(env: Env, *args: Any, **kwargs: Any) -> Outcome:
    """Random values of a fixed shape, which pin the dimensions that they are unified with."""
    return tuple(((n,),) for n in env.outs[0])
