"""Means over the batch and over channels at once do not depend on the size of the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from tests.check import relative_error

Statistic = Callable[[Tensor], Tensor]
STATISTICS: dict[str, Statistic] = {
    "share of active units": lambda h: (h > 0).to(h.dtype).mean(),
    "mean": lambda h: h.mean(),
    "mean of squares": lambda h: h.pow(2).mean(),
    "sum over entries": lambda h: h.sum() / h.numel(),
    "mean over constants, too": lambda h: (h.unsqueeze(-2) * torch.ones(3, 1, dtype=h.dtype)).mean(),
}
SHAPES = [(5, 4), (7, 4), (4,), (2, 5, 4)]


class Sparse(nn.Module):
    def __init__(self, statistic: Statistic) -> None:
        super().__init__()
        self.a, self.last, self.statistic = nn.Linear(4, 6), nn.Linear(6, 2), statistic

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = F.relu(self.a(x))
        return self.last(hidden), self.statistic(hidden)


class Shifted(nn.Module):
    """As many channels as there are samples are left out of the mean, so that a number of channels follows these."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.last = nn.Linear(4, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = F.relu(self.a(x))
        return self.last(hidden), hidden[:, len(x) :].mean()


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("name", STATISTICS)
def test_a_mean_over_the_batch_and_channels_keeps_no_size(name: str, output: Literal["graph", "module"]) -> None:
    draws = torch.Generator().manual_seed(0)
    teacher = Sparse(STATISTICS[name]).double().eval()
    student = fxgrow.grow(teacher, 2.0, torch.randn(SHAPES[0], generator=draws).double(), output=output)
    plan = fxgrow.plan_of(student)
    assert [width.new for width in plan.grown_widths] == [12]
    assert not plan.sizes
    for shape in SHAPES:
        x = torch.randn(shape, generator=draws).double()
        for new, old in zip(student(x), teacher(x), strict=True):
            assert relative_error(new, old) <= 1e-10


@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_mean_over_as_many_channels_as_the_batch_leaves_is_refused(output: Literal["graph", "module"]) -> None:
    with pytest.raises(fxgrow.GrowError, match="depends on the size of the batch"):
        fxgrow.grow(Shifted().double().eval(), 2.0, torch.randn(5, 4).double(), output=output)
