"""Numbers that are made of sizes: which sizes of inputs and which widths, and whether another width shows in them.

A size is a product of one factor. Products and sums of sizes are other numbers for another width, whatever the sizes of
the example are. Remainders, comparisons and all else may be the same number for the example and another one elsewhere.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..layouts.layout import InputDim, Var, atoms


@dataclass(frozen=True, slots=True)
class Number:
    """Where a number comes from.

    Attributes:
        dims: The dimensions of inputs.
        widths: The widths.
        shown: Whether another width makes it another number for the example's sizes.
        factors: What it is the product of, each an atom or a layout; None where it is no product.
        number: The plain number that it has as a factor.
        positive: Whether it is more than 0 for all sizes.
        value: What it is for the example's sizes, where that is known.
    """

    dims: frozenset[InputDim] = frozenset()
    widths: frozenset[Var] = frozenset()
    shown: bool = True
    factors: Counter[Any] | None = field(default_factory=Counter)
    number: int = 1
    positive: bool = True
    value: float | None = None

    @property
    def is_zero(self) -> bool:
        """Whether it may be 0 for the example's sizes, so that no product with it shows another width."""
        return not self.positive and not self.value

    @property
    def is_plain_zero(self) -> bool:
        """Whether it is 0 in the code."""
        return self.value == 0 and not self.dims and not self.widths

    @property
    def is_hidden(self) -> bool:
        return bool(self.dims and self.widths) and not self.shown


def all_of(numbers: Sequence[Number]) -> Number:
    """A number that anything may be done with that it comes from."""
    dims = frozenset[InputDim]().union(*[number.dims for number in numbers])
    widths = frozenset[Var]().union(*[number.widths for number in numbers])
    return Number(dims, widths, not (dims and widths), factors=None, positive=False)


def both(left: Number, right: Number, *, shown: bool = True, positive: bool = False) -> Number:
    """A number of two, which is no product."""
    shown = shown and left.shown and right.shown
    return Number(left.dims | right.dims, left.widths | right.widths, shown, factors=None, positive=positive)


def times(left: Number, right: Number) -> Number:
    """A product: another width shows unless the other factor may be 0 for the example's sizes."""
    shown = not (left.widths and right.is_zero) and not (right.widths and left.is_zero)
    total = both(left, right, shown=shown, positive=left.positive and right.positive)
    if left.value is not None and right.value is not None:
        total = replace(total, value=left.value * right.value)
    if left.factors is None or right.factors is None:
        return total
    return replace(total, factors=left.factors + right.factors, number=left.number * right.number)


def _plus(left: Number, right: Number) -> Number:
    return both(left, right, positive=left.positive and right.positive)


def _minus(left: Number, right: Number) -> Number:
    """A difference: another width shows unless both sides have one."""
    return both(left, right, shown=not (left.widths and right.widths))


def _quotient(left: Number, right: Number) -> Number | None:
    """What is left where a product is divided by some of its factors."""
    if left.factors is None or right.factors is None or left.number % right.number or right.factors - left.factors:
        return None
    factors = left.factors - right.factors
    used = {var for factor in factors for var in (atoms(factor) if isinstance(factor, tuple) else (factor,))}
    dims = frozenset(var.input for var in used if var.input is not None)
    return Number(dims, left.widths & used, True, factors, left.number // right.number)


def _divided(left: Number, right: Number) -> Number:
    """A quotient: another width shows unless it is of 0, or both sides have one."""
    exact = _quotient(left, right)
    shown = not left.is_zero and not (left.widths and right.widths)
    return exact if exact is not None else both(left, right, shown=shown)


def compared(left: Number, right: Number) -> Number:
    """A comparison: two products of the same are equal for all sizes; whether sizes make 0, no width decides."""
    if left.factors is not None and left.factors == right.factors and left.number == right.number:
        return Number(factors=None, positive=False)
    for one, other in ((left, right), (right, left)):
        if one.positive and other.is_plain_zero:
            return Number(one.dims, factors=None, positive=False)
    return all_of([left, right])


def _floor_divided(left: Number, right: Number) -> Number:
    exact = _quotient(left, right)
    return exact if exact is not None else all_of([left, right])


ARITHMETIC: Mapping[Any, Callable[[Number, Number], Number]] = {
    operator.mul: times,
    operator.add: _plus,
    operator.sub: _minus,
    operator.truediv: _divided,
    operator.floordiv: _floor_divided,
}
