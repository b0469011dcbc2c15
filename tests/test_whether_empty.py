"""Code that asks if sizes make 0 (`if x.numel() == 0`): no width decides that, unless it decides a size that may be."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow import GrowError

OUTPUTS: tuple[Literal["graph", "module"], ...] = ("graph", "module")
Question = Callable[[Tensor], Any]


class Asks(nn.Module):
    """Rows (N, 5), a width of 12, and a question about the activation that another result depends on."""

    def __init__(self, question: Question) -> None:
        super().__init__()
        self.a, self.b, self.question = nn.Linear(5, 12), nn.Linear(12, 3), question

    def forward(self, x: Tensor) -> Any:
        h = torch.tanh(self.a(x))
        return self.b(h) * 2 if self.question(h) else self.b(h)


def results(teacher: nn.Module, student: nn.Module, sizes: tuple[int, ...]) -> dict[int, bool | None]:
    """For each number of rows whether the student gives the teacher's result; None where it refuses."""
    found: dict[int, bool | None] = {}
    for size in sizes:
        x = torch.randn(size, 5, dtype=torch.float64)
        try:
            found[size] = torch.allclose(student(x), teacher(x), atol=1e-12)
        except GrowError:
            found[size] = None
    return found


EMPTY: dict[str, Question] = {
    "numel() == 0": lambda h: h.numel() == 0,
    "numel() > 0": lambda h: h.numel() > 0,
    "0 < numel()": lambda h: operator.lt(0, h.numel()),
    "not numel()": lambda h: not h.numel(),
    "a product": lambda h: h.shape[0] * h.shape[1] <= 0,
    "a sum": lambda h: h.size(0) + 2 * h.size(1) != 0,
    "0 in shape": lambda h: 0 in h.shape,
    "any": lambda h: any(n == 0 for n in h.shape),
    "of a view": lambda h: h[None, :, :, None].numel() == 0,
    "nbytes": lambda h: h.nbytes == 0,
}


def grown(question: Question, output: Literal["graph", "module"]) -> tuple[Asks, Any]:
    """A model that asks, and its student."""
    teacher = Asks(question).double()
    return teacher, fxgrow.grow(teacher, 1.5, torch.randn(2, 5, dtype=torch.float64), output=output)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("question", EMPTY.values(), ids=EMPTY)
def test_a_width_grows_where_code_asks_if_something_is_empty(
    question: Question, output: Literal["graph", "module"]
) -> None:
    teacher, student = grown(question, output)
    assert student.a.out_features == 18
    assert all(results(teacher, student, (1, 2, 3, 12, 18, 24)).values())
    assert results(teacher, student, (0,))[0] is not False


DECIDES: dict[str, Question] = {
    "a remainder": lambda h: h.shape[0] % h.shape[1] == 0,
    "another number": lambda h: h.numel() == 24,
    "a difference": lambda h: h.shape[1] - 12 == 0,
    "a difference of both": lambda h: h.shape[0] - h.shape[1] > 0,
    "a quotient": lambda h: h.shape[0] // h.shape[1] > 0,
    "columns behind the width": lambda h: h[:, 12:].numel() == 0,
    "rows behind the width": lambda h: h[h.shape[1] :].numel() == 0,
    "rows before the width": lambda h: h[: h.shape[0] - h.shape[1]].numel() == 0,
    "a product with a difference": lambda h: h.shape[0] * (h.shape[1] - 12) == 0,
    "a count of entries": lambda h: torch.zeros(h.shape[1])[12:].numel() == 0,
}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("question", DECIDES.values(), ids=DECIDES)
def test_a_width_that_decides_if_something_is_empty_stays_or_the_student_refuses(
    question: Question, output: Literal["graph", "module"]
) -> None:
    try:
        teacher, student = grown(question, output)
    except GrowError:
        return
    assert False not in results(teacher, student, (1, 2, 3, 11, 12, 13, 15, 18, 19, 24, 36, 40)).values()


class InBlocks(nn.Module):
    """Tokens (N, T, 8) in blocks of two, as local attention has them, of three heads of four."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.out = nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Any:
        h = self.q(x).view(*x.shape[:2], 3, -1)
        shape = h.shape[:1] + (h.shape[1] // 2, 2) + h.shape[2:]  # noqa: RUF005 (as public code has it)
        if 0 in shape:
            return x.new_empty(shape)
        return self.out(torch.tanh(h.reshape(shape)).reshape(*x.shape[:2], -1))


def test_each_entry_of_a_shape_that_is_put_together_is_asked_for_alone() -> None:
    teacher = InBlocks().double()
    student = fxgrow.grow(teacher, {"q": 24}, torch.randn(2, 6, 8, dtype=torch.float64), output="module")
    assert student.q.out_features == 24
    for shape in ((1, 4, 8), (3, 8, 8), (12, 6, 8), (24, 2, 8)):
        x = torch.randn(shape, dtype=torch.float64)
        assert torch.allclose(student(x), teacher(x), atol=1e-12)
