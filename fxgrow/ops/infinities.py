"""Infinities and NaN that code brings in: an infinite constant, number or buffer, and where it may go.

0 times infinity is NaN, so new channels with random values and zero columns are exact only if they stay finite. An
infinity is harmless as long as its places do not depend on the numbers of the channels (a mask over tokens), because
then every channel of the teacher has it, too, and as long as a softmax or a comparison ends it. `Value.infinite`
follows such ones. Where the numbers of a channel select it (`masked_fill(h > 2, inf)`), or where it is multiplied or
summed, new channels have to be replicas. So they have to where a number is so large that its square is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from ..base.magnitude import far_from_zero
from ..layouts.layout import Layout, is_fixed
from .env import Value
from .registry import rule_for

INFINITE = "may select, multiply or sum an infinity or NaN"

# The result is finite, or no number, whatever goes in.
_ENDS = frozenset((
    "_safe_softmax", "_softmax", "eq", "ge", "gt", "isfinite", "isinf", "isnan", "le", "logical_and", "logical_not",
    "logical_or", "logical_xor", "lt", "ne", "new_empty", "new_ones", "new_zeros", "ones_like", "signbit", "zeros_like",
))  # fmt: skip
# Each entry of the result is an entry that goes in, or an infinity at the place of one.
_PASSES = frozenset((
    "_log_softmax", "add", "amax", "amin", "constant_pad_nd", "copy", "fill", "full_like", "gather", "index",
    "index_copy", "index_fill", "index_select", "masked_fill", "max", "maximum", "min", "minimum", "new_full", "repeat",
    "scatter", "sub", "rsub", "tril", "triu", "unfold", "where",
))  # fmt: skip
_LINEAR = ("each", "spread", "fresh", "alike")
_ORDER = frozenset(("ord", "p"))  # of a norm: infinity is one
_CLAMPS = frozenset(("clamp", "clamp_max", "clamp_min", "hardtanh"))
_BOUNDS = {"min": -1, "max": 1, "min_val": -1, "max_val": 1}  # the sign of those that bound nothing
_DIVISIONS = frozenset(("div", "floor_divide"))
_FACTORS = frozenset(("value", "other", "alpha", "beta", "fill_value", "weight"))  # plain numbers, not sizes


@dataclass(frozen=True, slots=True)
class Infinities:
    """What becomes of infinities in one call.

    Attributes:
        replicas: The dimensions in which new channels have to be replicas.
        infinite: Whether the results may hold infinities, at the same places for all channels.
    """

    replicas: tuple[Layout, ...] = ()
    infinite: bool = False


_NONE = Infinities()


@cache
def _names(op: Any) -> tuple[str, tuple[str, ...]]:
    """The name of an operator, whether it writes in place or not, and those of its arguments."""
    return op._schema.name.partition("::")[2].removesuffix("_"), tuple([a.name for a in op._schema.arguments])


def infinities(
    op: Any, args: Sequence[Any], kwargs: Mapping[str, Any], dtypes: Sequence[torch.dtype] = ()
) -> Infinities:
    """What becomes of the infinities among the arguments of a call.

    Args:
        op: The overload.
        args: Its arguments, each tensor of which is a `Value`.
        kwargs: Those by name.
        dtypes: Of the tensors among them. A number whose square is infinite in these counts as infinite.
    """
    far = far_from_zero(dtypes)
    values = [v for a in (*args, *kwargs.values()) for v in _values(a)]
    name, arguments = _names(op)
    named = {**dict(zip(arguments, args, strict=False)), **kwargs}
    if not any(v.infinite for v in values) and not _has_infinity(name, named, far):
        return _NONE
    if name in _ENDS:
        return _NONE
    selects = _selecting(name, named, far)
    rule = rule_for(op)
    if selects is None and (name in _PASSES or (rule is not None and rule.linear in _LINEAR)):
        return Infinities(infinite=True)
    at = [v for v in values if not v.constant] if selects is None else [selects]
    replicas = tuple(dict.fromkeys(la for v in at for la in v.layouts if not is_fixed(la)))
    return Infinities(replicas, infinite=selects is not None)


def _values(argument: Any) -> Sequence[Value]:
    if isinstance(argument, Value):
        return (argument,)
    return [a for a in argument if isinstance(a, Value)] if isinstance(argument, (list, tuple)) else ()


def _has_infinity(name: str, named: Mapping[str, Any], far: float) -> bool:
    """Whether a plain number among the arguments makes the result infinite, or NaN."""
    if name == "nan_to_num":
        return False
    for key, argument in named.items():
        if key in _ORDER or isinstance(argument, Value):
            continue
        numbers = argument if isinstance(argument, (list, tuple)) else (argument,)
        for number in [n for n in numbers if isinstance(n, float) or (key in _FACTORS and type(n) is int)]:
            if name in _DIVISIONS and key == "other":
                if _is_infinite(1 / number if number else math.inf, far):
                    return True
            elif _is_infinite(number, far) and not (name in _CLAMPS and number * _BOUNDS.get(key, 0) > 0):
                return True
    return False


def _selecting(name: str, named: Mapping[str, Any], far: float) -> Value | None:
    """The tensor whose numbers decide where the results are infinite, if there is one."""
    chosen = {"masked_fill": ("value",), "where": ("self", "other"), "threshold": ("value",)}.get(name)
    if chosen is None:
        return None
    selecting = named.get({"masked_fill": "mask", "where": "condition", "threshold": "self"}[name])
    if not isinstance(selecting, Value) or selecting.constant:
        return None
    infinite = [_is_infinite(named.get(key), far) for key in chosen]
    return selecting if any(infinite) else None


def _is_infinite(argument: Any, far: float) -> bool:
    if isinstance(argument, Value):
        return argument.infinite
    return isinstance(argument, int | float) and not abs(argument) < far
