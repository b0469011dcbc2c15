"""Elementwise operators: exact for any mapping, because each entry of the result depends on one channel only.

Operators that PyTorch tags `torch.Tag.pointwise` all use `pointwise`; the ones listed lack the tag.
A dimension of size 1 that is broadcast against a larger one is pinned: it has one value for all channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base.magnitude import far_from_zero, is_narrower
from ..layouts.layout import Layout, is_fixed, product
from .env import GIVEN, LARGE, PARTIAL, POSITIONS, Env, Outcome, Value, broadcast, tensors
from .registry import Exactness, Sample, rule

aten = torch.ops.aten


# Functions with a finite value and a finite slope for every finite input, except possibly the very largest.
TOTAL = frozenset((
    "abs", "add", "addcmul", "asinh", "atan", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "ceil",
    "celu", "clamp", "clamp_max", "clamp_min", "complex", "copysign", "cos", "deg2rad", "elu", "eq", "erf", "erfc",
    "floor", "fmax", "fmin", "frac", "ge", "gelu", "gt", "hardshrink", "hardsigmoid", "hardswish",
    "hardtanh", "heaviside", "isfinite", "isinf", "isnan", "le", "leaky_relu", "lerp",
    "logical_and", "logical_not", "logical_or", "logical_xor", "lt", "masked_fill", "maximum", "minimum", "mish",
    "mul", "nan_to_num", "ne", "neg", "polar", "positive", "rad2deg", "relu",
    "relu6", "round", "rsub", "selu", "sgn", "sigmoid", "sign", "signbit", "silu", "sin", "sinc", "softplus",
    "softshrink", "square", "sub", "tanh", "threshold", "trunc", "where",
))  # fmt: skip

# Functions with a finite value and a finite slope near zero, which grow or end far from it.
FINITE_NEAR_ZERO = frozenset((
    "acos", "asin", "atanh", "cosh", "erfinv", "exp", "exp2", "expm1", "log1p", "sinh", "special_entr", "tan",
))  # fmt: skip
HIGHEST_POWER = 4  # of an activation, which is then finite in every dtype for all but the very largest


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
        _on_hidden(lambda x: F.mish(F.hardswish(x.clone(), inplace=True), inplace=True)),
        _on_hidden(lambda x: x.clone().masked_fill_(x > 1, 0.5).masked_fill_(x < -1, torch.tensor(-0.5))),
        _on_hidden(lambda x: aten.floor_divide.Scalar(x, 2) + torch.floor_divide(x, 1 + x * x)),
        _on_hidden(lambda x: aten.floor_divide_.Scalar(x.clone(), 2).floor_divide_(1 + x * x)),
        _on_hidden(lambda x: torch.polar(x, x.tanh()).real),
    ],
    exact=Exactness(
        any="every dimension",
        replicas="the same, for functions without a finite value or slope for some inputs: log, sqrt, exp, a fraction",
        pinned="a dimension of size 1 that is broadcast",
    ),
)
def pointwise(env: Env, *args: Any, **kwargs: Any) -> Outcome:
    """out[i] = f(x[i], y[i], ...)"""
    given = tensors((*args, *kwargs.values()))
    if not _is_total(env.name, args):
        _replicas_only(env, given)
    if _looks_up(env, args):
        _replicas_only(env, given, POSITIONS)
    return Value(broadcast(env, given), away=_is_away(env, args, kwargs))


def _is_away(env: Env, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a lower bound keeps the result so far from zero that its inverse is finite in its dtype."""
    bounds = {"clamp": kwargs.get("min", args[1] if len(args) > 1 else None), "clamp_min": args[-1]}
    low = bounds.get(env.name.removesuffix("_"))
    return isinstance(low, int | float) and low * far_from_zero(env.dtypes) > 1


def _is_total(name: str, args: tuple[Any, ...]) -> bool:
    """Whether a function is in `TOTAL`, or is a power with a natural exponent or a division by a constant."""
    name = name.removesuffix("_")
    if name == "pow" and len(args) > 1 and isinstance(args[1], int | float):
        return 1 <= args[1] <= HIGHEST_POWER and float(args[1]).is_integer()
    if name in ("div", "floor_divide", "remainder", "fmod") and len(args) > 1:
        return is_divisor(args[1])
    return name in TOTAL


def is_divisor(number: Any) -> bool:
    """Whether what is divided by a number, or a tensor, is finite."""
    if isinstance(number, Value):
        return number.away
    return isinstance(number, int | float) and not math.isnan(number) and number != 0


def _looks_up(env: Env, args: tuple[Any, ...]) -> bool:
    """Whether whole numbers are compared with a range of them: how `one_hot` is computed on the meta device."""
    whole = len(env.dtypes) > 1 and all(not t.is_floating_point and t != torch.bool for t in env.dtypes)
    return whole and env.name == "eq" and isinstance(args[1], Value) and args[1].constant


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
    return pointwise(env, *args, **kwargs)


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
    out = broadcast(env, tensors((x, factor)))
    if not isinstance(factor, Value):
        return _scaled(env, x, None, out) or out
    return _scaled(env, x, factor, out) or _scaled(env, factor, x, out) or out


@rule(
    aten.div.Tensor,
    aten.div.Scalar,
    samples=[
        _on_hidden(lambda x: x / 3),
        _on_hidden(lambda x: x / (1 + x * x)),
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
    if not is_divisor(divisor):
        given = isinstance(divisor, Value) and divisor.origin
        _replicas_only(env, tensors((x, divisor)), f"divides by {given}, which {GIVEN}" if given else "")
    out = broadcast(env, tensors((x, divisor)))
    return _scaled(env, x, divisor if isinstance(divisor, Value) else None, out) or out


def _scaled(env: Env, weight: Value, factor: Value | None, out: tuple[Layout, ...]) -> Value | None:
    """The result as a scaled weight, if `weight` is one of the result's shape and `factor` no view of it; else None."""
    is_weight = bool(weight.origin) and weight.shape == env.outs[0]
    if not is_weight or (factor is not None and factor.origin == weight.origin):
        return None
    return weight.derived(out, weight.dims)


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


def is_rounded(dtypes: tuple[torch.dtype, ...]) -> bool:
    """Whether real numbers are written into a tensor of whole numbers, which code uses as positions."""
    whole = bool(dtypes) and not dtypes[0].is_floating_point and not dtypes[0].is_complex and dtypes[0] != torch.bool
    return whole and any(dtype.is_floating_point for dtype in dtypes[1:])


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
    return x.derived(x.layouts, x.dims)


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
    if dtype is None or (dtype.is_floating_point and torch.promote_types(before, dtype) == dtype):
        return x.derived(x.layouts, x.dims)
    env.rounds()
    if is_narrower(dtype, before) and not x.origin:
        _replicas_only(env, [x], LARGE)
    return x.layouts
