"""Assignments to slices: bounds that are sizes follow, be they literals or attributes of the module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from tests.check import randomise, relative_error

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Write = Callable[[Any, Tensor, Tensor], None]


class Assigns(nn.Module):
    def __init__(self, write: Write) -> None:
        super().__init__()
        self.write, self.half, self.rest = write, 5, 3
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        z = torch.zeros_like(y)
        self.write(self, y, z)
        return self.last(z)  # type: ignore[no-any-return]


def by_attributes(net: Any, y: Tensor, z: Tensor) -> None:
    z[:, : net.half] = y[:, : net.half]
    z[:, net.half :] = torch.relu(y[:, net.half :])


def by_literals(net: Any, y: Tensor, z: Tensor) -> None:
    z[:, :5] = y[:, :5]
    z[:, 5:] = torch.relu(y[:, 5:])


def from_the_end(net: Any, y: Tensor, z: Tensor) -> None:
    z[..., :-3] = torch.relu(y[..., :-3])
    z[..., -net.rest :] = y[..., -net.rest :]


def augmented(net: Any, y: Tensor, z: Tensor) -> None:
    z += y
    z[:, : net.half] += torch.relu(y[:, : net.half])
    z[:, net.half :] *= 2


def crossed(net: Any, y: Tensor, z: Tensor) -> None:
    z[:, : net.rest] = y[:, net.half :]
    z[:, net.rest :] = y[:, : net.half]


WRITES = [by_attributes, by_literals, from_the_end, augmented, crossed]


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
def test_the_parts_of_an_assignment_grow(write: Write, output: Literal["graph", "module"]) -> None:
    net = randomise(Assigns(write).double()).eval()
    if output == "module" and write is from_the_end:  # code that states a size stays as it is
        with pytest.raises(fxgrow.PlanError, match="the model's code states a size"):
            fxgrow.grow(net, 2.0, X, output=output)
        return
    student = fxgrow.grow(net, 2.0, X, output=output)
    grown = [width.name for width in fxgrow.plan_of(student).grown_widths]
    assert grown == ["first[5:]"] if output == "module" and write is by_literals else grown  # [:5] stays 5
    assert relative_error(student(X), net(X)) <= 1e-10
    assert relative_error(student(X[:2]), net(X[:2])) <= 1e-10


def test_parts_may_grow_each_by_its_own_factor() -> None:
    net = randomise(Assigns(by_attributes).double()).eval()
    for name, new in [("first[:5]", 9), ("first[5:]", 4)]:
        student = fxgrow.grow(net, {name: new}, X)
        assert [(w.name, w.new) for w in fxgrow.plan_of(student).grown_widths] == [(name, new)]
        assert relative_error(student(X), net(X)) <= 1e-10
