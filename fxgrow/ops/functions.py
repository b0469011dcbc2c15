"""What is known of elementwise functions by name: where they are finite, zero, and never negative."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from ..base.magnitude import far_from_zero
from ..layouts.layout import Layout, atoms
from ..layouts.unify import size
from .env import Env, Value

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

# Those of them that are zero where the first argument is, and that a trained weight is passed through.
ZERO_AT_ZERO = frozenset((
    "abs", "asinh", "atan", "ceil", "celu", "deg2rad", "elu", "erf", "floor", "gelu", "hardshrink", "hardswish",
    "leaky_relu", "mish", "rad2deg", "relu", "relu6", "round", "selu", "sgn", "sign", "silu", "sin", "softshrink",
    "square", "tanh", "trunc",
))  # fmt: skip
# Those of these whose slope is zero there, as torch has it.
FLAT_AT_ZERO = frozenset((
    "abs", "ceil", "floor", "hardshrink", "pow", "relu", "relu6", "round", "sgn", "sign", "softshrink", "square",
    "trunc",
))  # fmt: skip
NEVER_NEGATIVE = frozenset(("abs", "exp", "exp2", "relu", "relu6", "rsqrt", "sigmoid", "softplus", "sqrt", "square"))
AWAY_FROM_ZERO = frozenset(("sqrt", "log", "rsqrt", "reciprocal"))  # finite, with a finite slope, for what is positive
HIGHEST_POWER = 4  # of an activation, which is then finite in every dtype for all but the very largest


def of_buffer(env: Env, value: Value) -> bool:
    """Whether a value is made of a buffer, which does not train, as the mask of pruned weights is."""
    return bool(value.origin) and env.is_buffer(value.origin)


def looks_up(env: Env, args: tuple[Any, ...]) -> bool:
    """Whether whole numbers are compared with a range of them: how `one_hot` is computed on the meta device."""
    whole = len(env.dtypes) > 1 and all(not t.is_floating_point and t != torch.bool for t in env.dtypes)
    return whole and env.name == "eq" and isinstance(args[1], Value) and args[1].constant


def is_mean(op: Any, value: Value, args: Sequence[Any]) -> bool:
    """Whether a call divides a sum by the number of its terms."""
    divides = op is aten.div.Tensor and len(args) == 2 and type(args[1]) is int
    return divides and args[1] == math.prod(map(size, value.sums))


def is_number(argument: Any) -> bool:
    """Whether an argument is a plain number."""
    return isinstance(argument, int | float)


def is_zero_at_zero(name: str, args: tuple[Any, ...]) -> bool:
    """Whether a function of one tensor is zero where it is."""
    if name in ("clamp", "hardtanh"):
        bounds = args[1:3]
        return len(bounds) == 2 and all(map(is_number, bounds)) and bounds[0] <= 0 <= bounds[1]
    return name in ZERO_AT_ZERO or (name == "pow" and is_total(name, args))


def is_flat_at_zero(name: str, args: tuple[Any, ...]) -> bool:
    """Whether such a function, or a product of a tensor with itself, has no slope there."""
    return name == "mul" or (name in FLAT_AT_ZERO and not (name == "pow" and args[1] == 1))


def is_zero_at_zero_alone(name: str) -> bool:
    """Whether such a function, or a product of a tensor with itself, is zero nowhere else."""
    return name in ("abs", "square", "pow", "mul")


def is_total_away(name: str, args: tuple[Any, ...]) -> bool:
    """Whether a function is finite, with a finite slope, for what is positive and away from zero."""
    power = name.removesuffix("_") == "pow" and len(args) > 1 and is_number(args[1]) and -1 <= args[1] <= 1
    return power or name.removesuffix("_") in AWAY_FROM_ZERO


def is_nonnegative(env: Env, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> bool:
    """Whether no entry of the result is negative."""
    if any(dtype.is_complex for dtype in env.dtypes):
        return False
    if kwargs:  # such as alpha, which may be negative, and the upper bound of clamp
        return False
    name = env.name.removesuffix("_")
    first, second = (args[0] if args else None), (args[1] if len(args) > 1 else None)
    if name == "pow":
        return isinstance(second, int | float) and second > 0 and float(second) % 2 == 0
    if name in ("clamp", "clamp_min"):
        bounds = [bound for bound in args[1:] if bound is not None]
        return second is not None and all(is_number(bound) and bound >= 0 for bound in bounds)
    if name == "mul" and second is first:
        return True
    if name in ("add", "mul"):
        return all(map(_is_known_nonnegative, (first, second)))
    return name in NEVER_NEGATIVE


def _is_known_nonnegative(operand: Any) -> bool:
    return operand.nonnegative if isinstance(operand, Value) else isinstance(operand, int | float) and operand >= 0


def is_away(env: Env, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a lower bound keeps the result so far from zero that its inverse is finite in its dtype."""
    name = env.name.removesuffix("_")
    first, last = args[0], args[-1]
    if name == "sqrt":
        return isinstance(first, Value) and first.away and first.nonnegative
    bounds = {"clamp": kwargs.get("min", args[1] if len(args) > 1 else None), "clamp_min": last}
    if name == "add" and len(args) == 2 and "alpha" not in kwargs and isinstance(first, Value) and first.nonnegative:
        bounds["add"] = last
    low = bounds.get(name)
    return isinstance(low, int | float) and low * far_from_zero(env.dtypes) > 1


def is_total(name: str, args: tuple[Any, ...]) -> bool:
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


# What decides by whether a channel is the largest one: `x == x.amax(1, keepdim=True)`. The teacher's largest channel is
# equal to the maximum to the last bit. Of its replicas in a student one is, and the others only up to rounding: a
# matrix product may add up equal rows in another order.
_DECIDES = frozenset((
    "eq", "ne", "ge", "gt", "le", "lt", "floor", "ceil", "trunc", "frac", "sign", "sgn", "heaviside", "floor_divide",
    "remainder", "fmod",
))  # fmt: skip
TIED = "compares channels with the largest or smallest of them, to which replicas are equal up to rounding only"
PAIRED = "compares channels of one width with each other, of which replicas are equal up to rounding only"


def with_ties(env: Env, given: Sequence[Value], out: Value) -> Value:
    """The result of an elementwise operator with what it has of maxima over channels; pinned if it decides by them."""
    name = env.name.removesuffix("_")
    if name in _DECIDES:
        _keep(env, _paired(out), PAIRED)
    if not any(v.extreme or v.tied for v in given):
        return out
    alone = len([v for v in given if not v.constant]) == 1
    extreme = tuple(dict.fromkeys(layout for v in given for layout in v.extreme))
    tied = tuple(dict.fromkeys((*(layout for v in given for layout in v.tied), *(() if alone else extreme))))
    if name in _DECIDES:
        _keep(env, tied, TIED)
        return out
    if name == "round":  # to the nearest, from which rounding errors are far
        return out
    return replace(out, extreme=extreme if alone else (), tied=tied)


def keep_cut_off(env: Env, x: Value, dtype: torch.dtype | None) -> None:
    """Pin what decides by a cast to whole numbers or truth values, which cuts off what rounding changes."""
    if dtype is not None and not dtype.is_floating_point and not dtype.is_complex:
        _keep(env, x.tied, TIED)
        _keep(env, _paired(x), PAIRED)


def _paired(x: Value) -> list[Layout]:
    """The dimensions of a tensor with an entry for each pair of channels of one width."""
    counts = Counter(atom for layout in x.layouts for atom in set(atoms(layout)))
    return [layout for layout in x.layouts if any(counts[atom] > 1 for atom in atoms(layout))]


def _keep(env: Env, layouts: Sequence[Layout], why: str) -> None:
    for layout in layouts:
        env.keep(layout, why)
