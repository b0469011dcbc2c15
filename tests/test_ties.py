"""What decides by whether a channel is the largest: replicas are equal to the maximum up to rounding only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from tests.check import assert_exact, randomise

OUTPUTS = ("graph", "module")


class Net(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 12), nn.Linear(12, 3)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.function(self.a(x))).relu())


def _low(h: Tensor) -> Tensor:
    return h.amin(1, keepdim=True)


def _high(h: Tensor) -> Tensor:
    return h.amax(1, keepdim=True)


DECIDE: dict[str, Callable[[Tensor], Tensor]] = {
    "equal": lambda h: torch.where(h == h.max(1, keepdim=True)[0], h, 0.0),
    "not equal": lambda h: h * (h != _high(h)),
    "at least": lambda h: h * (h >= h.max(dim=1).values.unsqueeze(1)),
    "less": lambda h: h.masked_fill(_high(h).expand_as(h) > h, 0.0),
    "smallest": lambda h: h * (h.aminmax(dim=1, keepdim=True)[0] == h),
    "of all": lambda h: h * (h == h.max()),
    "difference": lambda h: h * (h - _high(h) == 0),
    "quotient": lambda h: h * (h / _high(h) >= 1),
    "cut off": lambda h: h + ((h - _low(h)) / (_high(h) - _low(h))).floor(),
    "whole": lambda h: h + ((h - _low(h)) / (_high(h) - _low(h))).long(),
    "truth": lambda h: h * (h - _high(h)).bool(),
    "sign": lambda h: h + (h - _high(h)).sign(),
    "pairs": lambda h: h * (h[:, :, None] > h[:, None]).any(2),
    "rank": lambda h: h * (h[:, :, None] - h[:, None] >= 0).double().amax(1),
}


def _inputs() -> Tensor:
    return torch.randn(64, 6, dtype=torch.float64)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", DECIDE)
def test_channels_that_are_compared_with_the_largest_stay(name: str, output: Literal["graph", "module"]) -> None:
    teacher = randomise(Net(DECIDE[name])).double()
    with pytest.raises(fxgrow.PlanError, match="replicas are equal up to rounding only"):
        fxgrow.grow(teacher, {"a": 2.0}, _inputs(), output=output)
    student = fxgrow.grow(teacher, 2.0, _inputs(), method="even", output=output)
    assert student.get_parameter("b.weight").shape == (24, 8)
    assert_exact(teacher, student, _inputs(), 1e-10)


GROW: dict[str, Callable[[Tensor], Tensor]] = {
    "of space": lambda h: h * (h == h.max(0, keepdim=True)[0]),
    "a number": lambda h: h * (_high(h) > 0.3),
    "in an exponent": lambda h: (h - _high(h)).exp(),
    "scaled and rounded": lambda h: (h * (127 / _high(h.abs()))).round() / 127,
    "normalised": lambda h: ((h - _low(h)) / (_high(h) - _low(h))).relu(),
}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", GROW)
def test_a_maximum_over_channels_that_decides_nothing_grows(name: str, output: Literal["graph", "module"]) -> None:
    teacher: Any = randomise(Net(GROW[name])).double()
    student = fxgrow.grow(teacher, {"a": 2.0}, _inputs(), method="even", output=output)
    assert student.get_parameter("a.weight").shape == (16, 6)
    assert_exact(teacher, student, _inputs(), 1e-10)
