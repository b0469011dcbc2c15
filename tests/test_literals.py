"""Sizes that code states as literals follow the widths that they are the sizes of."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from tests.check import assert_exact

Function = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """A function between two linear layers, for hidden values of shape (N, T, width)."""

    def __init__(self, function: Function, width: int = 8) -> None:
        super().__init__()
        self.a, self.function = nn.Linear(5, width), function
        self.b = nn.Linear(function(torch.zeros(2, 3, width)).flatten(1).shape[1], 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.function(torch.tanh(self.a(x))).flatten(1))


STATED: dict[str, Function] = {
    "a full slice": lambda h: h[:, :, :8],
    "a start from the end": lambda h: torch.cat([h[..., -3:], h[..., :-3]], -1),
    "uneven parts by size": lambda h: torch.cat(h.split(3, -1)[::-1], -1),
    "equal parts by size": lambda h: torch.cat(h.split(4, -1)[::-1], -1),
    "parts by sizes": lambda h: torch.cat(h.split([2, 6], -1)[::-1], -1),
    "joined sizes": lambda h: h.view(h.size()[:-1] + (2, 4)).transpose(1, 2),  # noqa: RUF005 - as people write it
    "the last dimension unflattened": lambda h: h.unflatten(-1, (2, 4)).transpose(1, 2),
    "a divisor": lambda h: h.view(h.shape[0], h.shape[1], 2, h.shape[2] // 2).transpose(1, 2),
    "a count, and the rest": lambda h: h.view(h.shape[0], 3, 2, -1).transpose(1, 2),
}


@pytest.mark.parametrize("factor", [1.5, 2.0])
@pytest.mark.parametrize("name", STATED)
def test_a_size_in_the_code_follows(name: str, factor: float) -> None:
    torch.manual_seed(0)
    teacher, x = Net(STATED[name]).double(), torch.randn(2, 3, 5, dtype=torch.float64)
    student = fxgrow.grow(teacher, factor, x)
    assert_exact(teacher, student, x, 1e-10)
    assert student.get_parameter("a.weight").shape[0] >= 8 * factor
