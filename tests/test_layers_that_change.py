"""Code that changes its own layers while it runs: modes, settings, hooks and dtypes are those of that moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from tests.check import assert_exact, randomise

OUTPUTS = ("graph", "module")


class Net(nn.Module):
    def __init__(self, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3, padding=1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def _called(m: Net, x: Tensor) -> Tensor:
    return m.b(m.norm(m.a(x)).relu()).mean((2, 3))


def _frozen_norm(m: Net, x: Tensor) -> Tensor:
    m.norm.eval()
    return _called(m, x)


def _norm_frozen_for_a_while(m: Net, x: Tensor) -> Tensor:
    mode = m.norm.training
    m.norm.eval()
    y = _called(m, x)
    m.norm.train(mode)
    return y


def _all_norms_frozen(m: Net, x: Tensor) -> Tensor:
    for module in m.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.training = False
    return _called(m, x)


def _statistics_left_out(m: Net, x: Tensor) -> Tensor:
    m.norm.track_running_stats = False
    y = _called(m, x)
    m.norm.track_running_stats = True
    return y


def _two_dilations(m: Net, x: Tensor) -> Tensor:
    ys = []
    for step in (1, 2):
        m.b.dilation = m.b.padding = (step, step)
        ys.append(_called(m, x))
    m.b.dilation = m.b.padding = (1, 1)
    return ys[0] + ys[1]


def _stride_set(m: Net, x: Tensor) -> Tensor:
    m.b.stride = (2, 2)
    return _called(m, x)


def _hooked_for_a_while(m: Net, x: Tensor) -> Tensor:
    handle = m.a.register_forward_hook(lambda module, inputs, output: output * 2)
    y = _called(m, x)
    handle.remove()
    return y


def _hooked_before_for_a_while(m: Net, x: Tensor) -> Tensor:
    handle = m.b.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
    y = _called(m, x)
    handle.remove()
    return y


CHANGES = (
    _frozen_norm, _norm_frozen_for_a_while, _all_norms_frozen, _statistics_left_out, _two_dilations, _stride_set,
    _hooked_for_a_while, _hooked_before_for_a_while,
)  # fmt: skip


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("function", CHANGES)
def test_a_layer_that_forward_changes_is_changed_in_the_student(
    function: Callable[[Any, Tensor], Tensor], output: Any
) -> None:
    teacher, x = randomise(Net(function)).double(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    student = fxgrow.grow(teacher, 2.0, x, output=output)
    assert student.get_parameter("b.weight").shape == (4, 16, 3, 3)
    assert_exact(teacher, student, x, 1e-10, modes=("eval", "train"))


class Converts(nn.Module):
    def __init__(self, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_model_that_converts_its_own_layer_still_does(output: Any) -> None:
    teacher = randomise(Converts(lambda m, x: m.c(m.b.float()(m.a(x).float()).to(x.dtype)))).double()
    x = torch.randn(4, 6, dtype=torch.float64)
    student = fxgrow.grow(teacher, 2.0, x, output=output)
    assert student.get_parameter("b.weight").shape == (16, 16)
    assert_exact(teacher, student, x, 1e-5)
    assert student.get_parameter("b.weight").dtype == teacher.get_parameter("b.weight").dtype == torch.float32


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_conversion_that_changes_nothing_is_no_conversion(output: Any) -> None:
    teacher = randomise(Converts(lambda m, x: m.c(m.b.to(x)(m.a.to(x.device)(x))))).double()
    x = torch.randn(4, 6, dtype=torch.float64)
    student = fxgrow.grow(teacher, 2.0, x, output=output)
    assert_exact(teacher, student, x, 1e-10)
