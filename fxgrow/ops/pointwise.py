"""Elementwise operators: exact for any mapping, because each entry of the result depends on one channel only.

Operators that PyTorch tags `torch.Tag.pointwise` all use `pointwise`; the ones listed lack the tag.
A dimension of size 1 that is broadcast against a larger one is pinned: it has one value for all channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base.magnitude import holds, is_narrower, is_rounded
from ..layouts.layout import is_fixed, product
from .env import GIVEN, LARGE, PARTIAL, POSITIONS, Env, Outcome, Value, broadcast, less_mean, tensors
from .functions import (
    FINITE_NEAR_ZERO,
    is_away,
    is_divisor,
    is_flat_at_zero,
    is_nonnegative,
    is_total,
    is_total_away,
    is_zero_at_zero,
    is_zero_at_zero_alone,
    keep_cut_off,
    looks_up,
    of_buffer,
    with_ties,
)
from .registry import Exactness, Sample, rule

aten = torch.ops.aten


def _on_hidden(function: Callable[[Tensor], Tensor]) -> Sample:
    return Sample(lambda: function)


@rule(
    aten.hardswish,
    aten.hardswish_,
    aten.mish_,
    aten.masked_fill.Tensor,
    aten.masked_fill_,
    aten.floor_divide,
    aten.floor_divide_,
    aten.complex.default,
    aten.polar.default,
    samples=[
        _on_hidden(lambda x: x * x.sigmoid()),
        _on_hidden(F.hardswish),
        _on_hidden(lambda x: torch.where(x > 0, x, 0.1 * x)),
        _on_hidden(lambda x: x.masked_fill(x > 1, 0.5)),
        _on_hidden(lambda x: x.masked_fill(x > 1, torch.tensor(0.5, dtype=x.dtype))),
        _on_hidden(lambda x: torch.complex(x, x.tanh()).abs()),
        _on_hidden(lambda x: x * x[:, :1]),
        _on_hidden(lambda x: x.clone().relu_().add_(x).clamp_(max=2.0)),
        _on_hidden(lambda x: x**2 + (x * x + 1).log()),
        _on_hidden(lambda x: (2 + x.tanh()).log()),
        _on_hidden(lambda x: (x.abs() + 1).rsqrt() + (x.abs() + 1).sqrt().reciprocal() + (1 + x * x) ** -0.5),
        _on_hidden(lambda x: F.mish(F.hardswish(x.clone(), inplace=True), inplace=True)),
        _on_hidden(lambda x: x.clone().masked_fill_(x > 1, 0.5).masked_fill_(x < -1, torch.tensor(-0.5))),
        _on_hidden(lambda x: aten.floor_divide.Scalar(x, 2) + torch.floor_divide(x, 1 + x * x)),
        _on_hidden(lambda x: aten.floor_divide_.Scalar(x.clone(), 2).floor_divide_(1 + x * x)),
        _on_hidden(lambda x: torch.polar(x, x.tanh()).real),
        _on_hidden(lambda x: x * (x.amax(1, keepdim=True) > 0) + (x - x.amax(1, keepdim=True)).exp()),
        Sample(lambda: lambda x: x * (x == x.amax(1, keepdim=True)), grows=False),
    ],
    exact=Exactness(
        any="every dimension",
        replicas="the same, for functions without a finite value or slope for some inputs: log, sqrt, exp, a fraction",
        pinned="a dimension of size 1 that is broadcast; channels that are compared with the largest of them",
    ),
)
def pointwise(env: Env, *args: Any, **kwargs: Any) -> Outcome:
    """out[i] = f(x[i], y[i], ...)"""
    given = tensors((*args, *kwargs.values()))
    if not is_total(env.name, args):
        _partial(env, given, args)
    if looks_up(env, args):
        _replicas_only(env, given, POSITIONS)
    out = Value(
        broadcast(env, given),
        away=is_away(env, args, kwargs),
        nonnegative=is_nonnegative(env, args, kwargs),
        length=given[0].length if env.name in ("sqrt", "sqrt_") and given else None,
    )
    return with_ties(env, given, _from_zero(env, args, given, out))


def _from_zero(env: Env, args: tuple[Any, ...], given: list[Value], out: Value) -> Value:
    """The result as a function of one weight that is zero where the weight is, if it is one."""
    first = args[0] if args and isinstance(args[0], Value) else None
    if first is None or not first.origin or first.shape != env.outs[0] or env.op._schema.is_mutable:
        return out
    alike = [v.origin == first.origin and v.dims == first.dims and v.shape == first.shape for v in given]
    combined = len(given) == 2 and all(alike) and env.name in ("add", "sub", "mul")
    if combined or (len(given) == 1 and is_zero_at_zero(env.name, args)):
        alone = not first.zeros or first.nonnegative
        definite = alone and out.nonnegative and is_zero_at_zero_alone(env.name)
        flat = first.flat or is_flat_at_zero(env.name, args)
        return replace(out, origin=first.origin, dims=first.dims, zeros=True, flat=flat, nonnegative=definite)
    return out


def _partial(env: Env, given: list[Value], args: tuple[Any, ...]) -> None:
    """Require what keeps a function finite that is not finite for some inputs."""
    only = given[0] if len(given) == 1 else None
    if only is not None and only.away and only.nonnegative and is_total_away(env.name, args):
        return
    if only is not None and only.length is not None and env.name in ("sqrt", "rsqrt", "reciprocal"):
        env.nonzero(only.length, f"{PARTIAL} where a row of {only.length[0]} is zero")
        return
    _replicas_only(env, given)


def _replicas_only(env: Env, given: list[Value], why: str = "") -> None:
    """Require replicas in all dimensions: the function is not finite for some inputs."""
    name = env.name.removesuffix("_")
    why = why or (LARGE if name in FINITE_NEAR_ZERO else PARTIAL)
    for layout in dict.fromkeys(layout for value in given for layout in value.layouts):
        if not is_fixed(layout):
            env.replicas_only(layout, f"{env.name}, which {why},")


@rule(
    aten.add.Tensor,
    aten.add.Scalar,
    aten.add_.Tensor,
    aten.add_.Scalar,
    aten.sub.Tensor,
    aten.sub.Scalar,
    aten.sub_.Tensor,
    aten.sub_.Scalar,
    aten.rsub,
    samples=[
        _on_hidden(lambda x: x + 0.5 * x),
        _on_hidden(lambda x: 1 - x),
        _on_hidden(lambda x: (x + 1).sub_(x)),
        _on_hidden(lambda x: aten.sub_.Scalar(aten.sub.Scalar(aten.add.Scalar(x, 1), 2), 3)),
        _on_hidden(lambda x: aten.rsub.Tensor(x, 3 * x)),
        _on_hidden(lambda x: aten.add_.Scalar(x.clone().add_(x) - 0.5 * x, 1)),
    ],
    exact=Exactness(any="every dimension", pinned="a dimension of size 1 that is broadcast"),
    linear="sum",
    kinds={"self": "shift", "other": "shift"},
)
def added(env: Env, *args: Any, **kwargs: Any) -> Outcome:
    """out[i] = x[i] + alpha * y[i]"""
    out = pointwise(env, *args, **kwargs)
    if env.name != "sub" or kwargs or not all(isinstance(operand, Value) for operand in args):
        return out
    rows = less_mean(env, *args)
    if rows is None:
        return out
    env.keeps_moments(rows, "subtracts the mean from the rows")
    return replace(out, dims=args[0].dims, rows=rows, moved=args[0].moved)


@rule(
    aten.mul_.Tensor,
    aten.mul_.Scalar,
    samples=[
        _on_hidden(lambda x: x.clone().mul_(0.5)),
        _on_hidden(lambda x: x.clone().mul_(x)),
        _on_hidden(lambda x: aten.mul_.Scalar(x.clone(), 0.5)),
    ],
    exact=Exactness(any="every dimension", pinned="a dimension of size 1 that is broadcast"),
    linear="scale",
)
def multiply_in_place(env: Env, *args: Any, **kwargs: Any) -> Outcome:
    """x[i] = x[i] * factor[i]"""
    return pointwise(env, *args, **kwargs)


@rule(
    aten.div_.Tensor,
    aten.div_.Scalar,
    samples=[
        _on_hidden(lambda x: x.clone().div_(3)),
        _on_hidden(lambda x: x.clone().div_(1 + x * x)),
        _on_hidden(lambda x: x.clone().div_(2 + x.tanh())),
        _on_hidden(lambda x: aten.div_.Scalar(x.clone(), 3)),
    ],
    exact=Exactness(
        any="every dimension, by a number",
        replicas="every dimension",
        pinned="a dimension of size 1 that is broadcast",
    ),
    linear="divide",
)
def divide_in_place(env: Env, *args: Any, **kwargs: Any) -> Outcome:
    """x[i] = x[i] / divisor[i]"""
    return pointwise(env, *args, **kwargs)


@rule(
    aten.mul.Tensor,
    aten.mul.Scalar,
    samples=[_on_hidden(lambda x: x * 0.5), _on_hidden(lambda x: x * x), _on_hidden(lambda x: aten.mul.Scalar(x, 2))],
    exact=Exactness(any="every dimension", pinned="a dimension of size 1 that is broadcast"),
    linear="scale",
)
def multiply(env: Env, x: Value, factor: Any) -> Outcome:
    """out[i] = x[i] * factor[i]; a weight of the result's shape can still be divided through it."""
    given = tensors((x, factor))
    out = Value(broadcast(env, given), nonnegative=is_nonnegative(env, (x, factor)))
    if not isinstance(factor, Value):
        return _scaled(env, x, None, out) or replace(out, length=x.length if factor else None)
    first, second = (factor, x) if of_buffer(env, x) and not of_buffer(env, factor) else (x, factor)
    out = _scaled(env, first, second, out) or _scaled(env, second, first, out) or out
    return with_ties(env, given, _from_zero(env, (x, factor), given, out))


@rule(
    aten.div.Tensor,
    aten.div.Scalar,
    samples=[
        _on_hidden(lambda x: x / 3),
        _on_hidden(lambda x: x / (1 + x * x)),
        _on_hidden(lambda x: x / (2 + x.tanh())),
        _on_hidden(lambda x: aten.div.Scalar(x, 3)),
    ],
    exact=Exactness(
        any="every dimension, by a number",
        replicas="every dimension",
        pinned="a dimension of size 1 that is broadcast",
    ),
    linear="divide",
)
def divide(env: Env, x: Value, divisor: Any) -> Outcome:
    """out[i] = x[i] / divisor[i]; a weight as the numerator can still be divided through it."""
    if x.sums:  # by the number of terms, for all else was pinned before
        env.uniform(x.sums, "a mean over channels")
        env.expect(1, product(x.sums))
    if isinstance(divisor, Value) and divisor.length is not None and not divisor.away:
        env.nonzero(divisor.length, f"divides by a norm of {divisor.length[0]}")
    elif not is_divisor(divisor):
        given = isinstance(divisor, Value) and divisor.origin
        _replicas_only(env, tensors((x, divisor)), f"divides by {given}, which {GIVEN}" if given else "")
    out = Value(broadcast(env, tensors((x, divisor))))
    if not isinstance(divisor, Value):
        return _scaled(env, x, None, out) or replace(out, length=x.length if divisor else None)
    return with_ties(env, [x, divisor], _scaled(env, x, divisor, out) or out)


@rule(
    aten.div.out,
    samples=[
        _on_hidden(lambda x: torch.div(x, 2 + x.tanh(), out=torch.empty_like(x))),
        _on_hidden(lambda x: torch.div(x, (x * x).clamp(min=1), out=torch.empty_like(x))),
    ],
    exact=Exactness(
        any="every dimension, by what is away from zero",
        replicas="every dimension",
        pinned="a dimension of size 1 that is broadcast",
    ),
)
def divide_into(env: Env, x: Value, divisor: Value, *, out: Value) -> Outcome:
    """out[i] = x[i] / divisor[i], into given memory, as the vectors of `spectral_norm` are."""
    quotient = divide(env, x, divisor)
    result = quotient if isinstance(quotient, Value) else Value(tuple(quotient))
    for mine, theirs in zip(result.layouts, out.layouts, strict=True):
        env.unify(mine, theirs)
    return result


def _scaled(env: Env, weight: Value, factor: Value | None, out: Value) -> Value | None:
    """The result as a scaled weight, if `weight` is one of the result's shape and `factor` no view of it; else None.

    A matrix that is scaled along a dimension of its own and one more (for each example apart) is one, too.
    """
    missing = len(env.outs[0]) - len(weight.shape)
    if not weight.weighs or (factor is not None and factor.source == weight.source):
        return None
    if weight.shape != env.outs[0]:
        if weight.rows is not None:
            return None
        is_matrix = sum(n > 1 for n in weight.shape) > 1
        if not is_matrix or factor is None or factor.shape == env.outs[0]:
            return None
    own_shape, own_dims = (1,) * missing + weight.shape, ((),) * missing + weight.dims
    spread = [n != own for n, own in zip(env.outs[0], own_shape, strict=True)]  # these have no entries in it
    dims = tuple([() if more else own for more, own in zip(spread, own_dims, strict=True)])
    whole = replace(out, origin=weight.origin, dims=dims, zeros=weight.zeros, nonnegative=False)  # a factor may be 0
    return replace(whole, scaled=True, rows=weight.rows, moved=weight.moved)


@rule(
    aten._prelu_kernel,
    samples=[Sample(lambda: nn.PReLU(8)), Sample(nn.PReLU)],
    exact=Exactness(any="every dimension", pinned="one slope for all channels"),
)
def prelu(env: Env, x: Value, weight: Value) -> Outcome:
    """out = max(0, x) + weight * min(0, x), with one weight per channel or one for all."""
    out = broadcast(env, [x, weight])
    env.declare(num_parameters=product(weight.layouts))
    return out


@rule(
    aten.copy_,
    aten.fill_,
    aten.zero_,
    samples=[
        _on_hidden(lambda x: torch.zeros_like(x).copy_(x)),
        _on_hidden(lambda x: x + torch.zeros_like(x).fill_(2.0)),
        _on_hidden(lambda x: x + torch.zeros_like(x).fill_(torch.tensor(2.0)) + x.clone().zero_()),
        _on_hidden(lambda x: x * torch.zeros_like(x, dtype=torch.int64).copy_(3 * x)),
    ],
    exact=Exactness(
        any="every dimension",
        replicas="the same, where real numbers become whole ones",
        pinned="a dimension of size 1 that is broadcast",
    ),
)
def assign(env: Env, x: Value, *args: Any, **kwargs: Any) -> Outcome:
    """x[i] = source[i]; the result has x's shape."""
    broadcast(env, [x, *tensors(args)])
    if is_rounded(env.dtypes):
        _replicas_only(env, [x], POSITIONS)
    return x.layouts


@rule(
    aten.log_sigmoid_forward,
    samples=[_on_hidden(F.logsigmoid)],
    exact=Exactness(any="every dimension"),
)
def log_sigmoid(env: Env, x: Value) -> Outcome:
    """(log(sigmoid(x)), buffer of x's shape, or an empty one)"""
    return [x.layouts, x.layouts if env.outs[1] == x.shape else tuple([((n,),) for n in env.outs[1]])]


@rule(
    aten.glu,
    samples=[_on_hidden(lambda x: F.glu(torch.cat([x, x], 1), 1)), _on_hidden(lambda x: F.glu(x, 2))],
    exact=Exactness(any="the dimension, as two equal halves; all others"),
)
def glu(env: Env, x: Value, dim: int = -1) -> Outcome:
    """a * sigmoid(b) with x = [a, b] along dim; the halves are one width."""
    a, b = env.cut(x.layouts[dim], env.outs[0][dim])
    env.unify(a, b)
    out = list(x.layouts)
    out[dim] = a
    return tuple(out)


@rule(
    aten.detach,
    aten.alias,
    aten.clone,
    aten.lift_fresh,
    aten.neg,
    samples=[
        _on_hidden(lambda x: -x.clone().contiguous()),
        _on_hidden(lambda x: aten.lift_fresh.default(aten.alias.default(x))),
        _on_hidden(lambda x: x + x.detach()),
    ],
    exact=Exactness(any="every dimension"),
    linear="each",
)
def same(env: Env, x: Value, *args: Any, **kwargs: Any) -> Outcome:
    """The same values or their negatives; a weight can still be divided through it."""
    result = x.derived(x.layouts, x.dims)
    if env.name != "neg":
        return result
    is_mean = x.source and not x.weighs  # which is added where its negative is subtracted
    return Value(x.layouts) if is_mean else replace(result, nonnegative=False, scaled=True)


@rule(
    aten._to_copy,
    samples=[
        _on_hidden(lambda x: x * (x > 0).to(x.dtype)),
        _on_hidden(lambda x: x * (3 * x).round().long()),
        _on_hidden(lambda x: aten._to_copy.default(x)),
    ],
    exact=Exactness(
        any="every dimension", replicas="the same, where real numbers become whole ones, or ones of a smaller range"
    ),
    linear="each",
)
def cast(env: Env, x: Value, *args: Any, dtype: torch.dtype | None = None, **kwargs: Any) -> Outcome:
    """The same values in another dtype; a weight can still be divided through it if nothing is rounded."""
    before = env.dtypes[0]
    if dtype is not None and is_rounded((dtype, before)):
        _replicas_only(env, [x], POSITIONS)
    if dtype is None or holds(dtype, before):
        return x.derived(x.layouts, x.dims)
    env.rounds()
    keep_cut_off(env, x, dtype)
    if is_narrower(dtype, before) and not x.origin:
        _replicas_only(env, [x], LARGE)
    return x.layouts
