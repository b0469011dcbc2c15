"""More channels of inputs: students take inputs of other numbers of dimensions where their code treats these alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from tests.check import relative_error

Step = Callable[[Tensor], Tensor]
Output = Literal["graph", "module"]
ALIKE: dict[str, Step] = {
    "as it is": lambda x: x,
    "entry by entry": torch.tanh,
    "by a number": lambda x: 2 * x + 1,
}
OTHERWISE: dict[str, Step] = {  # over samples in a batch, and over channels in a vector
    "mean": lambda x: x - x.mean(0),
    "softmax": lambda x: F.softmax(x, 0),
    "sum": lambda x: x / (1 + x.sum(0).abs()),
    "maximum": lambda x: x - x.amax(0),
    "running sum": lambda x: x.cumsum(0),
    "reversed": lambda x: x.flip(0),
    "sorted": lambda x: x.sort(0).values,
    "rolled": lambda x: x.roll(1, 0),
    "norm": lambda x: F.normalize(x, dim=0),
    "second dimension": lambda x: x - x.mean(-2 if x.ndim > 1 else -1, keepdim=True),
    "number of samples": lambda x: x / x.shape[0],
}
SHAPES = [(1, 3), (7, 3), (3,), (2, 7, 3), (2, 3, 4, 3)]


class Net(nn.Module):
    def __init__(self, step: Step) -> None:
        super().__init__()
        self.a, self.last, self.step = nn.Linear(3, 6), nn.Linear(6, 2), step

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.a(self.step(x))))  # type: ignore[no-any-return]


def more(x: Tensor) -> Tensor:
    """With two more channels, of other values."""
    return torch.cat([x, 3 + torch.rand_like(x[..., :2])], -1)


def grown(step: Step, output: Output) -> tuple[Net, nn.Module]:
    teacher = Net(step).double().eval()
    return teacher, fxgrow.grow(teacher, fxgrow.Inputs("x", 5), torch.rand(4, 3).double(), output=output)


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("name", ALIKE)
def test_more_channels_stand_last_whatever_the_number_of_dimensions(name: str, output: Output) -> None:
    teacher, student = grown(ALIKE[name], output)
    plan = fxgrow.plan_of(student)
    assert not plan.sizes
    assert not [note for note in plan.notes if "mixes" in note]
    for shape in SHAPES:
        x = torch.rand(shape).double()
        assert relative_error(student(more(x)), teacher(x)) <= 1e-10


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("name", OTHERWISE)
def test_where_a_vector_is_treated_in_another_way_it_is_refused(name: str, output: Output) -> None:
    try:
        teacher, student = grown(OTHERWISE[name], output)
    except fxgrow.GrowError:
        return
    refused = []
    for shape in SHAPES:
        x = torch.rand(shape).double()
        try:
            found = student(more(x))
        except fxgrow.GrowError:
            refused.append(shape)
            continue
        assert relative_error(found, teacher(x)) <= 1e-10, shape
    assert (7, 3) not in refused
    if output == "module" and refused:  # a graph states the number of dimensions that its code asked for
        assert any("number of dimensions than 2 (x)" in note for note in fxgrow.plan_of(student).notes)
