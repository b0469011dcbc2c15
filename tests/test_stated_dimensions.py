"""Code that states the size of one dimension: the widths in the other dimensions of that result grow all the same."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from tests.check import relative_error

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Stating(nn.Module):
    """Channels times a table that has five columns after the code."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.a, self.last = nn.Linear(4, 6), nn.Parameter(torch.randn(3, 6, 5))
        self.table = nn.Parameter(torch.randn(rows, columns))

    def columns(self) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bck,ock->bo", self.a(x).unsqueeze(-1) * self.columns().sin(), self.last)


class Sliced(Stating):
    def __init__(self) -> None:
        super().__init__(6, 8)

    def columns(self) -> Tensor:
        return self.table[:, 1:6]


class Expanded(Stating):
    def __init__(self) -> None:
        super().__init__(6, 1)

    def columns(self) -> Tensor:
        return self.table.expand(-1, 5)


class Narrowed(Stating):
    def __init__(self) -> None:
        super().__init__(8, 6)

    def columns(self) -> Tensor:
        return self.table.narrow(0, 2, 5).t()


class KAN(nn.Module):
    """A layer of splines as efficient-kan has it: the code cuts the grid of knots, (channels, knots), by numbers."""

    def __init__(self, inputs: int, outputs: int, intervals: int = 3, order: int = 2) -> None:
        super().__init__()
        self.outputs, self.order = outputs, order
        knots = torch.arange(-order, intervals + order + 1) * 2 / intervals - 1
        self.register_buffer("grid", knots.expand(inputs, -1).contiguous())
        self.base = nn.Parameter(torch.randn(outputs, inputs))
        self.spline = nn.Parameter(torch.randn(outputs, inputs, intervals + order))
        self.scale = nn.Parameter(torch.randn(outputs, inputs))

    def bases(self, x: Tensor) -> Tensor:
        grid, x = self.get_buffer("grid"), x.unsqueeze(-1)
        found = ((x >= grid[:, :-1]) & (x < grid[:, 1:])).to(x.dtype)
        for k in range(1, self.order + 1):
            left = (x - grid[:, : -(k + 1)]) / (grid[:, k:-1] - grid[:, : -(k + 1)]) * found[:, :, :-1]
            right = (grid[:, k + 1 :] - x) / (grid[:, k + 1 :] - grid[:, 1:-k]) * found[:, :, 1:]
            found = left + right
        return found.contiguous()

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.spline * self.scale.unsqueeze(-1)).view(self.outputs, -1)
        return F.linear(F.silu(x), self.base) + F.linear(self.bases(x).view(x.size(0), -1), weight)


@pytest.mark.parametrize("factor", [2.0, 1.5])
@pytest.mark.parametrize("net", [Sliced, Expanded, Narrowed])
def test_a_size_that_the_code_states_keeps_no_width_of_another_dimension(net: type[nn.Module], factor: float) -> None:
    teacher = net().double().eval()
    student = fxgrow.grow(teacher, factor, X, output="module")
    assert [(w.name, w.new) for w in fxgrow.plan_of(student).grown_widths] == [("a", int(6 * factor))]
    assert relative_error(student(X), teacher(X)) <= 1e-10
    assert relative_error(student(X[:2]), teacher(X[:2])) <= 1e-10


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("factor", [2.0, 1.5])
def test_splines_over_a_grid_of_knots_grow_their_channels(factor: float, output: Literal["graph", "module"]) -> None:
    teacher = nn.Sequential(KAN(4, 6), KAN(6, 3)).double().eval()
    student = fxgrow.grow(teacher, factor, X, output=output)
    assert ("0", int(6 * factor)) in [(w.name, w.new) for w in fxgrow.plan_of(student).grown_widths]
    assert relative_error(student(X), teacher(X)) <= 1e-10
    assert relative_error(student(X[:2]), teacher(X[:2])) <= 1e-10
