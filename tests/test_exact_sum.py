"""Sums that do not depend on the order of their terms, nor on how these are divided among processes."""

import math
from fractions import Fraction
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fxgrow.base.exact_sum import PART, exact_sum

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def divided(parts: list[Tensor]) -> float:
    """The sum by several processes, each with one part: all say their numbers, then all know the same."""
    largest: list[Tensor] = []
    sums: list[Tensor] = []

    class Stop(Exception):
        pass

    def told(numbers: Tensor, how: Literal["max", "sum"]) -> Tensor:
        if how == "max" and len(largest) < len(parts):
            largest.append(numbers)
            raise Stop
        if how == "max":
            return torch.stack(largest).amax(0)
        if len(sums) < len(parts):
            sums.append(numbers)
            raise Stop
        return torch.stack(sums).sum(0)

    for _ in range(2):
        for part in parts:
            with pytest.raises(Stop):
                exact_sum(part, told)
    (total,) = {exact_sum(part, told) for part in parts}
    return total


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_order_and_any_division_give_the_same_bits(dtype: torch.dtype) -> None:
    draws = torch.Generator().manual_seed(0)
    terms = (torch.randn(2 * PART + 77, generator=draws) * torch.logspace(-3, 3, 2 * PART + 77)).to(dtype)
    total = exact_sum(terms)
    assert exact_sum(terms.flip(0)) == total
    assert exact_sum(terms[torch.randperm(len(terms), generator=draws)]) == total
    assert divided(list(terms.split(len(terms) // 3))) == total
    assert divided([terms, terms[:0]]) == total
    assert total == pytest.approx(
        math.fsum(terms.double().tolist()), abs=2**-52 * float(terms.abs().max()) * len(terms)
    )


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=40))
def test_the_sum_is_right_to_the_last_bits_of_its_largest_term(terms: list[float]) -> None:
    exact = sum(map(Fraction, terms))
    error = abs(Fraction(exact_sum(torch.tensor(terms, dtype=torch.float64))) - exact)
    assert error <= Fraction(max(map(abs, terms))) * len(terms) / 2**52


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
def test_very_small_and_very_large_terms(scale: float) -> None:
    assert exact_sum(torch.tensor([3.0, -1.0, 0.5], dtype=torch.float64) * scale) == pytest.approx(2.5 * scale)


@pytest.mark.parametrize(("terms", "expected"), [([], 0.0), ([0.0, -0.0], 0.0), ([1.0, math.inf], math.inf)])
def test_nothing_zeros_and_infinities(terms: list[float], expected: float) -> None:
    assert exact_sum(torch.tensor(terms)) == expected


def test_a_nan_is_a_nan() -> None:
    assert math.isnan(exact_sum(torch.tensor([1.0, math.nan])))
