"""Sizes that code states as literals follow the widths that they are the sizes of."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

import fxgrow
from fxgrow.infer.literals import kinds
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
    "sizes joined in front": lambda h: h.permute(2, 0, 1).reshape((2, 4) + h.shape[:2]).permute(2, 3, 1, 0),  # noqa: RUF005
    "equal parts by a size that is named": lambda h: torch.cat(h.split(split_size=4, dim=-1)[::-1], -1),
    "parts by sizes that are named": lambda h: torch.cat(
        torch.split(h, split_size_or_sections=[2, 6], dim=-1)[::-1], -1
    ),
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


def test_what_is_no_view_states_no_numbers_of_rows() -> None:
    """A call may have as many numbers as the view that it is made of has sizes."""
    graph = fx.Graph()
    x = graph.placeholder("x")
    free = ("width", "width")
    assert kinds(None, (2, 4)) == free
    assert kinds(graph.call_method("tile", (x, 2, 4)), (2, 4)) == free
    assert kinds(graph.call_method("view", (x, 2, 4)), (2, 4)) == ("count", "count")
    assert kinds(graph.call_method("view", (x, -1, 4)), (2, 4)) == ("width", "count")
