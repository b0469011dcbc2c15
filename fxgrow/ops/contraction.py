"""Sums over channels weighted by a parameter: convolutions and matrix products.

The dimension of the weight that is summed over has the role *contract*: its entries are divided among replicas, so that
they sum to the original entry. The other dimensions of the weight are produced by it, and gathered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ..layouts.layout import ONE, Layout, fixed, product
from ..layouts.unify import Inexpressible
from .env import KERNEL, Env, Outcome, Value, broadcast
from .functions import of_buffer
from .registry import Exactness, Sample, rule

aten = torch.ops.aten


@rule(
    aten.convolution.default,
    samples=[
        Sample(lambda: nn.Conv2d(8, 5, 3)),
        Sample(lambda: nn.Conv1d(8, 6, 3, padding=1), (8, 12)),
        Sample(lambda: nn.Conv3d(8, 6, 2, bias=False), (8, 5, 4, 3)),
        Sample(lambda: nn.Conv2d(8, 8, 3, groups=8)),
        Sample(lambda: nn.Conv2d(8, 16, 3, groups=8)),
        Sample(lambda: nn.Conv2d(8, 12, 3, groups=4)),
        Sample(lambda: nn.Conv2d(8, 4, 3, groups=4)),
        Sample(lambda: nn.ConvTranspose2d(8, 6, 2, stride=2)),
        Sample(lambda: nn.ConvTranspose2d(8, 12, 2, stride=2, groups=4)),
        Sample(lambda: nn.ConvTranspose1d(8, 8, 3, groups=8), (8, 12)),
        Sample(lambda: nn.ConvTranspose3d(8, 16, 2, groups=8), (8, 3, 2, 2)),
        Sample(lambda: nn.Conv2d(8, 6, 3, padding=1, padding_mode="circular")),
        Sample(lambda: nn.Conv1d(5, 4, 1), (5, 8), dim=2),
        Sample(lambda: nn.Conv1d(5, 4, 3), (5, 8), dim=2, grows=False),
        Sample(lambda: nn.Conv1d(5, 4, 1, stride=2), (5, 8), dim=2, grows=False),
        Sample(lambda: nn.ConvTranspose2d(5, 4, (1, 3)), (5, 8, 4), dim=2),
    ],
    sized=(8,),
    exact=Exactness(
        any="channels, inside each group or by whole groups; input channels split; space, where the kernel has size 1",
        pinned="space otherwise, and the kernel",
    ),
    linear="filter",
    kinds={"weight": "weight", "bias": "shift"},
)
def convolution(
    env: Env,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Outcome:
    """out[o] = sum_i weight[o, i] * x[i]; x (N, g*i, *S), weight (g*o, i, *K), or (g*i, o, *K) transposed."""
    for kernel in weight.layouts[2:]:
        env.pin(kernel, KERNEL)
    spaces: list[Layout] = []
    for d, (space, length) in enumerate(zip(x.layouts[2:], env.outs[0][2:], strict=True)):
        pointwise = weight.shape[2 + d] == 1 and stride[d % len(stride)] == 1 and padding[d % len(padding)] == 0
        if pointwise and length == x.shape[2 + d]:
            spaces.append(space)
        else:
            env.keep(space, "a convolution slides over it")
            spaces.append(fixed(length))
    inside, out, count = (_transposed if transposed else _forward)(env, x.layouts[1], weight, groups)
    if inside is not None:
        env.contract(weight, inside)
    if bias is not None:
        env.unify(bias.layouts[0], out)
    env.declare(in_channels=x.layouts[1], out_channels=out, groups=count)
    env.expect(8, count)
    return (x.layouts[0], out, *spaces)


def _forward(env: Env, channels: Layout, weight: Value, groups: int) -> tuple[int | None, Layout, Layout]:
    """(contracted dimension of the weight or None, layout of the output channels, layout of the number of groups)"""
    rows, inside = weight.layouts[:2]
    if groups == 1:
        env.unify(inside, channels)
        return 1, rows, fixed(1)
    per_group = weight.shape[0] // groups
    if weight.shape[1] == 1:  # depthwise: one group per input channel, with any number of outputs each
        env.pin(inside, KERNEL)
        count, _ = env.split(rows, (groups, per_group), ("width", "width"))
        env.unify(channels, count)
        return None, rows, channels
    count, own = env.split(channels, (groups, weight.shape[1]), ("count", "width"))
    env.unify(inside, own)
    other, _ = env.split(rows, (groups, per_group), ("count", "width"))
    env.unify(count, other)
    return 1, rows, count


def _transposed(env: Env, channels: Layout, weight: Value, groups: int) -> tuple[int | None, Layout, Layout]:
    """As `_forward`, for a transposed convolution."""
    rows, inside = weight.layouts[:2]
    env.unify(rows, channels)
    if groups == 1:
        return 0, inside, fixed(1)
    count, _ = env.split(channels, (groups, weight.shape[0] // groups), ("count", "width"))
    if weight.shape[0] == groups:  # depthwise: nothing is summed over
        return None, product([count, inside]), count
    env.keep(count, "the groups of a transposed convolution are a factor of the dimension that it sums over")
    return 0, product([count, inside]), count


def matrix_product(env: Env, a: Value, b: Value) -> tuple[Layout, ...]:
    """a (*batch, n, k) @ b (*batch, k, m); the operand that is a parameter contracts, b if both or neither are."""
    env.unify(a.layouts[-1], b.layouts[-2])
    if b.weighs or not a.weighs:
        env.contract(b, len(b.layouts) - 2)
        rows, columns = a.layouts[-2], b.layouts[-1]
        env.declare(in_features=b.layouts[-2], out_features=columns)
    else:
        env.contract(a, len(a.layouts) - 1)
        rows, columns = a.layouts[-2], b.layouts[-1]
        env.declare(in_features=a.layouts[-1], out_features=rows)
    batch = broadcast(env, [Value(a.layouts[:-2]), Value(b.layouts[:-2])])
    return (*batch, rows, columns)


@rule(
    aten.mm.default,
    aten.bmm.default,
    samples=[
        Sample(lambda: nn.Linear(8, 6, bias=False), (5, 8), dim=2),
        Sample(lambda: lambda x: x @ x.transpose(-1, -2), (8, 6)),
        Sample(lambda: lambda x: x.transpose(-1, -2) @ x, (8, 6), grows=False),
    ],
    exact=Exactness(
        any="rows, columns, the batch, and the sum over a weight's entries, which split",
        pinned="a sum over two activations",
    ),
    linear="product",
)
def matmul(env: Env, a: Value, b: Value, **kwargs: Any) -> Outcome:
    """out = a @ b"""
    return matrix_product(env, a, b)


@rule(
    aten.addmm.default,
    aten.addmm_.default,
    aten.baddbmm.default,
    aten.baddbmm_.default,
    samples=[
        Sample(lambda: nn.Sequential(nn.Flatten(), nn.Linear(8 * 6 * 4, 6))),
        Sample(lambda: lambda x: x.clone().baddbmm_(x, x.transpose(1, 2) @ x), (5, 8), grows=False, dim=2),
        Sample(lambda: lambda x: torch.baddbmm(x, x, x.transpose(1, 2) @ x), (5, 8), grows=False, dim=2),
        Sample(lambda: lambda x: x[0].clone().addmm_(x[0], x[0].t() @ x[0])[None], (5, 8), grows=False, dim=2),
    ],
    exact=Exactness(any="as for a product", pinned="as for a product"),
    linear="product",
    kinds={"self": "shift"},  # ATen's name for the bias
)
def addmm(env: Env, bias: Value, a: Value, b: Value, **kwargs: Any) -> Outcome:
    """out = bias + a @ b"""
    return broadcast(env, [Value(matrix_product(env, a, b)), bias])


def _columns_of_groups(x: Tensor) -> Tensor:
    """Products of two groups of rows with a matrix of each example, whose columns are the channels."""
    rows = torch.linspace(-1, 1, 4 * 24).view(4, 24)
    ends = torch.tensor([2, 4], dtype=torch.int32)
    made = aten._grouped_mm(rows, x.flatten(2).transpose(1, 2).float(), ends)
    return x + made.view(2, 2, -1).mean(1)[:, :, None, None].to(x.dtype)


def _sums_of_groups(x: Tensor) -> Tensor:
    """Products of activations with activations, in groups of rows."""
    rows, ends = x.flatten(2).transpose(1, 2).float(), torch.tensor([20, 24], dtype=torch.int32)
    made = aten._grouped_mm(rows[0], rows.transpose(1, 2), ends)
    return x + made.mean().to(x.dtype)


@rule(
    aten._grouped_mm.default,
    samples=[Sample(lambda: _columns_of_groups), Sample(lambda: _sums_of_groups, grows=False)],
    exact=Exactness(
        any="columns, and the sum over a weight's entries, which split",
        pinned="the groups and their rows; a sum over two activations; other numbers of dimensions",
    ),
)
def grouped_mm(
    env: Env, a: Value, b: Value, ends: Value | None = None, bias: Value | None = None, **kwargs: Any
) -> Outcome:
    """out[rows of a group] = a[these rows] @ b[group]; a (rows, k), b (groups, k, m), ends (groups,)."""
    if ends is None or bias is not None or (len(a.layouts), len(b.layouts)) != (2, 3):
        raise Inexpressible("a product of groups other than of rows with matrices")
    for layout in (a.layouts[0], b.layouts[0], *ends.layouts):
        env.keep(layout, "rows are taken group by group")
    env.unify(a.layouts[1], b.layouts[1])
    if b.weighs or not a.weighs:
        env.contract(b, 1)
    else:
        env.contract(a, 1)
    return (a.layouts[0], b.layouts[2])


class _Bilinear(nn.Module):
    """nn.Bilinear of x (N, *, 8) and a function of x."""

    def __init__(self) -> None:
        super().__init__()
        self.form = nn.Bilinear(8, 8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.form(x, torch.sin(x))


class _FirstSummed(nn.Module):
    """out[n, o] = sum_i x[n, i] * weight[i, o] * c[o]: the sum runs over the first dimension of the weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.last = nn.Parameter(torch.randn(8, 6)), nn.Parameter(torch.randn(1, 6))

    def forward(self, x: Tensor) -> Tensor:
        return aten._trilinear(x, self.weight, self.last.expand(x.shape[0], 6), [2], [0], [1], [1])


@rule(
    aten._trilinear.default,
    samples=[Sample(_Bilinear, (5, 8), dim=2), Sample(_FirstSummed, (8,))],
    exact=Exactness(
        any="the outputs, the batch, and both sums over a weight's entries, which split",
        pinned="a sum over activations alone",
    ),
)
def trilinear(
    env: Env,
    a: Value,
    b: Value,
    c: Value,
    new_a: Sequence[int],
    new_b: Sequence[int],
    new_c: Sequence[int],
    summed: Sequence[int],
    *args: Any,
) -> Outcome:
    """out[n, o] = sum_ij a[n, i] * b[o, i, j] * c[n, j], each unsqueezed to the dimensions of the product."""
    wide = [(value, _own_dims(value, new)) for value, new in ((b, new_b), (a, new_a), (c, new_c))]
    layouts = broadcast(env, [Value(tuple([ONE if at is None else v.layouts[at] for at in ats])) for v, ats in wide])
    for dim in summed:
        holding = [(value, ats[dim]) for value, ats in wide if ats[dim] is not None]
        weight, at = next(((v, at) for v, at in holding if v.origin), holding[0])
        env.contract(weight, at or 0)
    if len(b.layouts) == 3:
        out, first, second = b.layouts
        env.declare(out_features=out, in1_features=first, in2_features=second)
    return tuple([layout for dim, layout in enumerate(layouts) if dim not in summed])


def _own_dims(value: Value, new: Sequence[int]) -> list[int | None]:
    """For each dimension after unsqueezing at `new`, the dimension of the value; None for an unsqueezed one."""
    own = iter(range(len(value.layouts)))
    return [None if dim in new else next(own) for dim in range(len(value.layouts) + len(new))]


def _weight_of(env: Env, a: Value, b: Value) -> Value | None:
    """The weight of a product in which no activation is, of a weight with a buffer or a function of the weight."""
    if not a.origin or not b.origin:
        return None
    weights = [value for value in (a, b) if not of_buffer(env, value)]
    alone = len(weights) == 1 or (len(weights) == 2 and a.origin == b.origin)
    return weights[0] if alone else None


class _Vector(nn.Module):
    """x (N, *, 8) @ vector (8)"""

    def __init__(self) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.vector


class _Dot(_Vector):
    """x (N, *, 8) times the product of its first entry with the vector"""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.dot(x[0, 0], self.vector)


class _Spectral(nn.Module):
    """A linear layer divided by its largest singular value."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = spectral_norm(nn.Linear(8, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


@rule(
    aten.mv.default,
    aten.dot.default,
    aten.vdot.default,
    samples=[
        Sample(_Vector, (5, 8), dim=2),
        Sample(lambda: lambda x: x @ x[0, 0], (5, 8), grows=False, dim=2),
        Sample(_Spectral, (5, 8), dim=2),
        Sample(_Dot, (5, 8), dim=2),
    ],
    exact=Exactness(
        any="rows, and the sum over a weight's entries, which split",
        zero="the same of a weight and a buffer",
        pinned="a sum over two activations",
    ),
    linear="product",
)
def vector_product(env: Env, a: Value, b: Value) -> Outcome:
    """a (n, k) @ b (k), or a (k) . b (k)

    A product of a weight and a buffer, as in `spectral_norm`, is the same where the new entries of the weight are zero.
    """
    env.unify(a.layouts[-1], b.layouts[0])
    weight = _weight_of(env, a, b)
    if weight is not None:
        env.vanish(weight, -1, f"multiplies {weight.origin} with what follows from it or from a buffer")
        rows = weight.layouts[:-1] if weight is a else a.layouts[:-1]
        if not rows:
            return Value((), length=(weight.origin, ()))
        return Value(rows, weight.origin, weight.dims[:-1], zeros=True) if weight is a else rows
    env.contract(b if b.origin or not a.origin else a, -1 if a.origin and not b.origin else 0)
    return a.layouts[:-1]
