"""Sizes that reach the code of a graph as plain numbers or texts, past every guard: the graph is run on other sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from tests.check import assert_exact, randomise

OUTPUTS = ("graph", "module")


class Call(nn.Module):
    """Stays a call, because a graph would lose `no_grad`, and leaves things in its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.seen = nn.Conv2d(8, 8, 1), {}

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.largest = x.amax()
        self.batch, self.size, self.seen["height"] = len(x), tuple(x.shape[2:]), x.shape[2]
        y: Tensor = self.layer(x)
        return y


class Net(nn.Module):
    def __init__(self, what: Any) -> None:
        super().__init__()
        self.a, self.call, self.b, self.what = nn.Conv2d(3, 8, 1), Call(), nn.Conv2d(8, 4, 1), what

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.b(self.call(self.a(x)).relu()) * self.what(self, x)
        return y


FROZEN: dict[str, Any] = {
    "number left in an attribute": lambda m, x: m.call.batch,
    "sizes left in an attribute": lambda m, x: m.call.size[0] + m.call.size[1],
    "number left in a table": lambda m, x: m.call.seen["height"],
    "length of a text": lambda m, x: len(f"{2 ** len(x)}"),
    "number read from a text": lambda m, x: int(f"{x.shape[2]}"),
    "text as a key": lambda m, x: {"h6": 2.0, "h12": 3.0}.get(f"h{x.shape[2]}", 4.0),
}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", FROZEN)
def test_a_size_that_code_sees_as_a_plain_number_is_that_of_the_inputs(name: str, output: Any) -> None:
    teacher, x = randomise(Net(FROZEN[name])).double(), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    student = fxgrow.grow(teacher, 2.0, x, output=output)
    assert student.get_parameter("b.weight").shape == (4, 16, 1, 1)
    for inputs in (x, torch.randn(5, 3, 6, 6, dtype=torch.float64), torch.randn(2, 3, 12, 9, dtype=torch.float64)):
        assert_exact(teacher, student, inputs, 1e-10)


HARMLESS: dict[str, Any] = {
    "a tensor left in an attribute": lambda m, x: m.call.largest.detach().sigmoid(),
    "a number that is not read": lambda m, x: 2.0,
    "a message": lambda m, x: torch._assert(x.ndim == 4, f"not {x.shape}") or 2.0,
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_no_size_decides_becomes_a_graph(name: str) -> None:
    teacher, x = randomise(Net(HARMLESS[name])).double(), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    student = fxgrow.grow(teacher, 2.0, x)
    if name != "a tensor left in an attribute":
        assert {"a", "call", "b"} <= {str(node.target) for node in student.graph.nodes}
    for inputs in (x, torch.randn(5, 3, 12, 9, dtype=torch.float64)):
        assert_exact(teacher, student, inputs, 1e-10)
