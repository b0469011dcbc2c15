"""Operators on each channel separately: pooling, spatial padding, interpolation.

Exact for any mapping of channels. The spatial dimensions never grow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layouts.layout import Layout, concat, fixed, product
from .env import KERNEL, POSITIONS, Env, Outcome, Value
from .registry import Exactness, Sample, rule

aten = torch.ops.aten

PER_CHANNEL = Exactness(any="channels and the batch", pinned="space")


def per_channel(env: Env, x: Value, out: Sequence[int], space: int) -> tuple[Layout, ...]:
    """x's layouts, with the last `space` dimensions pinned and replaced by the fixed sizes of the result."""
    lead = len(x.layouts) - space
    for layout in x.layouts[lead:]:
        env.keep(layout, "it is a spatial dimension of the operator")
    return (*x.layouts[:lead], *(fixed(n) for n in out[lead:]))


def _family(space: int, ops: Sequence[Any], builds: Sequence[Callable[[], Callable[[Tensor], Tensor]]]) -> None:
    """Register one rule for operators over the last `space` dimensions."""
    shape = (8, 12, 6, 4)[: space + 1]

    @rule(*ops, samples=[Sample(build, shape) for build in builds], exact=PER_CHANNEL)
    def spatial(env: Env, x: Value, *args: Any, **kwargs: Any) -> Outcome:
        """out[c] = f(x[c])"""
        return [per_channel(env, x, out, space) for out in env.outs]


_family(
    1,
    [
        aten.reflection_pad1d.default,
        aten.replication_pad1d.default,
        aten.upsample_linear1d,
        aten.upsample_nearest1d,
        aten._upsample_nearest_exact1d,
    ],
    [
        lambda: nn.AvgPool1d(2),
        lambda: nn.MaxPool1d(2),
        lambda: nn.AdaptiveAvgPool1d(3),
        lambda: nn.AdaptiveMaxPool1d(3),
        lambda: nn.ReflectionPad1d(1),
        lambda: nn.ReplicationPad1d(1),
        lambda: nn.Upsample(scale_factor=2, mode="linear"),
        lambda: nn.Upsample(scale_factor=2),
        lambda: nn.LPPool1d(1, 2),
        lambda: lambda x: F.interpolate(x, size=5, mode="nearest-exact"),
    ],
)
_family(
    2,
    [
        aten.avg_pool2d.default,
        aten.max_pool2d_with_indices.default,
        aten._adaptive_avg_pool2d.default,
        aten.adaptive_max_pool2d.default,
        aten.reflection_pad2d.default,
        aten.replication_pad2d.default,
        aten.upsample_nearest2d,
        aten._upsample_nearest_exact2d,
        aten.upsample_bilinear2d,
        aten._upsample_bilinear2d_aa,
        aten.upsample_bicubic2d,
        aten._upsample_bicubic2d_aa,
    ],
    [
        lambda: nn.AvgPool2d(2),
        lambda: nn.MaxPool2d(2, ceil_mode=True),
        lambda: nn.AdaptiveAvgPool2d((3, 2)),
        lambda: nn.AdaptiveAvgPool2d(1),
        lambda: nn.AdaptiveMaxPool2d(2),
        lambda: nn.LPPool2d(1, 2),
        lambda: nn.ReflectionPad2d(1),
        lambda: nn.ReplicationPad2d(1),
        lambda: nn.Upsample(scale_factor=2),
        lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
        lambda: nn.Upsample(scale_factor=2, mode="bicubic", align_corners=True),
        lambda: lambda x: F.interpolate(x, size=(3, 3), mode="nearest-exact"),
        lambda: lambda x: F.interpolate(x, size=(3, 3), mode="bilinear", antialias=True),
        lambda: lambda x: F.interpolate(x, size=(3, 3), mode="bicubic", antialias=True),
    ],
)
_family(
    3,
    [
        aten.avg_pool3d.default,
        aten.max_pool3d_with_indices.default,
        aten._adaptive_avg_pool3d.default,
        aten.adaptive_max_pool3d.default,
        aten.reflection_pad3d.default,
        aten.replication_pad3d.default,
        aten.upsample_nearest3d,
        aten._upsample_nearest_exact3d,
        aten.upsample_trilinear3d,
    ],
    [
        lambda: nn.AvgPool3d(2),
        lambda: nn.MaxPool3d(2),
        lambda: nn.AdaptiveAvgPool3d((3, 2, 1)),
        lambda: nn.AdaptiveMaxPool3d(2),
        lambda: nn.ReflectionPad3d(1),
        lambda: nn.ReplicationPad3d(1),
        lambda: nn.Upsample(scale_factor=2),
        lambda: nn.Upsample(scale_factor=2, mode="trilinear"),
        lambda: lambda x: F.interpolate(x, size=(3, 3, 3), mode="nearest-exact"),
    ],
)


def _fractional(x: Tensor) -> Tensor:
    return F.fractional_max_pool3d(x, 2, 2, _random_samples=0.25 + 0 * x[:, :, 0, 0, :3])


@rule(
    aten.fractional_max_pool2d.default,
    aten.fractional_max_pool3d.default,
    samples=[
        Sample(lambda: lambda x: F.fractional_max_pool2d(x, 2, 2, _random_samples=0.25 + 0 * x[:, :, 0, :2])),
        Sample(lambda: _fractional, (8, 6, 4, 4)),
        Sample(lambda: nn.FractionalMaxPool2d(2, output_size=2), grows=False),
    ],
    exact=Exactness(
        replicas="channels, where the regions are given", pinned="channels, where they are drawn per channel"
    ),
)
def fractional_pool(env: Env, x: Value, kernel: Sequence[int], size: Sequence[int], where: Value) -> Outcome:
    """The maximum over random regions, drawn per channel; x (N, C, *S), `where` (N, C, rank of S)."""
    space = where.shape[-1]
    env.unify(x.layouts[-space - 1], where.layouts[1])
    env.replicas_only(where.layouts[1], f"{env.name}, which {POSITIONS},")
    for layout in (where.layouts[0], where.layouts[2]):
        env.pin(layout, KERNEL)
    return [per_channel(env, x, out, space) for out in env.outs]


class _Unpooled(nn.Module):
    """Max pooling, then unpooling: only the maxima remain, at their positions."""

    def __init__(self, pool: nn.Module, back: nn.Module) -> None:
        super().__init__()
        self.pool, self.back = pool, back

    def forward(self, x: Tensor) -> Tensor:
        values, where = self.pool(x)
        return self.back(values, where)


@rule(
    aten.max_unpool2d.default,
    aten.max_unpool3d.default,
    samples=[
        Sample(lambda: _Unpooled(nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2))),
        Sample(lambda: _Unpooled(nn.MaxPool3d(2, return_indices=True), nn.MaxUnpool3d(2)), (8, 4, 2, 2)),
    ],
    exact=PER_CHANNEL,
)
def max_unpool(env: Env, x: Value, where: Value, *args: Any) -> Outcome:
    """out[c, where[c, i]] = x[c, i]; both (N, C, *S)"""
    for a, b in zip(x.layouts, where.layouts, strict=True):
        env.unify(a, b)
    return per_channel(env, x, env.outs[0], 2 if env.op is aten.max_unpool2d.default else 3)


def _grids(x: Tensor) -> Tensor:
    theta = x.flatten(0, 1)  # (N*C, 2, 3)
    return F.affine_grid(theta, [theta.shape[0], 1, 2, 4], align_corners=False).view(x.shape[0], x.shape[1], 16)


@rule(
    aten.affine_grid_generator.default,
    samples=[Sample(lambda: _grids, (8, 2, 3)), Sample(lambda: _grids, (8, 2, 3), grows=False, dim=2)],
    sized=(1,),
    exact=Exactness(any="the batch", pinned="the matrix and space"),
)
def affine_grid(env: Env, theta: Value, size: Sequence[int], *args: Any) -> Outcome:
    """theta (N, d, d+1) -> grid (N, *S, d)"""
    for layout in theta.layouts[1:]:
        env.keep(layout, "it holds an affine map")
    return (theta.layouts[0], *(fixed(n) for n in env.outs[0][1:]))


@rule(
    aten.grid_sampler_2d.default,
    aten.grid_sampler_3d.default,
    samples=[
        Sample(lambda: lambda x: F.grid_sample(x, x.new_zeros(x.shape[0], 3, 2, 2), align_corners=False)),
        Sample(
            lambda: lambda x: F.grid_sample(x, x.new_zeros(x.shape[0], 3, 2, 2, 3), align_corners=False), (8, 4, 3, 2)
        ),
    ],
    exact=Exactness(any="channels", pinned="space and the grid"),
)
def grid_sample(env: Env, x: Value, grid: Value, *args: Any) -> Outcome:
    """out[c] = x[c] sampled at the points of the grid, which are the same for all channels."""
    for layout in grid.layouts:
        env.keep(layout, "it is a dimension of the grid")
    return per_channel(env, x, env.outs[0], len(x.layouts) - 2)


@rule(
    aten.im2col.default,
    samples=[Sample(lambda: nn.Unfold(2)), Sample(lambda: nn.Unfold(3, padding=1, stride=2))],
    exact=Exactness(any="channels", pinned="space and the window"),
)
def im2col(env: Env, x: Value, kernel: Sequence[int], *args: Any) -> Outcome:
    """(N, C, *S) -> (N, C*k*k, positions): the window of each channel is contiguous."""
    for layout in x.layouts[-2:]:
        env.keep(layout, "windows slide over it")
    window = product([x.layouts[-3], fixed(math.prod(kernel))])
    return (*x.layouts[:-3], window, fixed(env.outs[0][-1]))


@rule(
    aten.col2im.default,
    samples=[Sample(lambda: nn.Sequential(nn.Unfold(2, stride=2), nn.Fold((6, 4), 2, stride=2)))],
    exact=Exactness(any="channels", pinned="space and the window"),
)
def col2im(env: Env, x: Value, size: Sequence[int], kernel: Sequence[int], *args: Any) -> Outcome:
    """(N, C*k*k, positions) -> (N, C, *S): overlapping windows are summed per channel."""
    area = math.prod(kernel)
    channels, block = env.split(x.layouts[-2], (x.shape[-2] // area, area), ("width", "fixed"))
    env.keep(block, "it is a size of space that the call states")
    return (*x.layouts[:-2], channels, *(fixed(n) for n in env.outs[0][-2:]))


@rule(
    aten.constant_pad_nd,
    samples=[
        Sample(lambda: nn.ZeroPad2d((1, 2, 0, 1))),
        Sample(lambda: nn.ConstantPad2d(-1, 0.5)),
        Sample(lambda: lambda x: F.pad(x, (0, 0, 0, 0, 2, 3), value=0.5)),
        Sample(lambda: lambda x: F.pad(x, (0, 0, 0, 0, -2, 0))),
    ],
    exact=Exactness(any="every dimension, with the padding as fixed parts"),
)
def constant_pad(env: Env, x: Value, pad: Sequence[int], value: float = 0) -> Outcome:
    """Constants before and after; padded channels are a fixed block of the new layout."""
    out = list(x.layouts)
    for pair in range(len(pad) // 2):
        dim, low, high = len(out) - 1 - pair, pad[2 * pair], pad[2 * pair + 1]
        layout, length = out[dim], x.shape[dim]
        if low < 0:
            gone, layout = env.cut(layout, -low)
            env.unread(gone)
        if high < 0:
            layout, gone = env.cut(layout, length + min(low, 0) + high)
            env.unread(gone)
        out[dim] = concat(
            [fixed(n) if n > 0 else () for n in (low,)] + [layout] + [fixed(n) if n > 0 else () for n in (high,)]
        )
    return tuple(out)
