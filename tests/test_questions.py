"""Code that asks for sizes, numbers and state in every way: the student answers as the teacher, or refuses."""

import random
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from tests.check import assert_exact, relative_error

Question = Callable[[Any, Tensor, Tensor], Tensor]


class Asking(nn.Module):
    """conv -> whatever is asked -> conv, with an integer, a list and a generator to ask."""

    def __init__(self, question: Question, *, private: bool = False) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)
        self.head = nn.Linear(12, 4)
        self.question, self.dim, self.calls = question, 8, [0]
        if private:
            self.draws = random.Random(1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.question(self, x, self.a(x).relu())
        return self.head(self.b(y).mean((2, 3)))


def _calls(model: Any, x: Tensor, y: Tensor) -> Tensor:
    model.calls.append(1)
    return y * len(model.calls)


def _in_place(model: Any, x: Tensor, y: Tensor) -> Tensor:
    x += 1
    return y


def _rows(model: Any, y: Tensor) -> Tensor:
    return y.reshape(y.shape[0], model.dim, y.shape[2], y.shape[3])


QUESTIONS: dict[str, Question] = {
    "a key": lambda m, x, y: y * {12: 3.0, 16: 5.0}.get(y.shape[2], 1.0),
    "a key of two": lambda m, x, y: y * {(12, 12): 9.0}.get((y.shape[2], y.shape[3]), 1.0),
    "a member of a set": lambda m, x, y: y * (2 if y.shape[2] in {12, 16} else 1),
    "a width against a height": lambda m, x, y: y * 2 if y.shape[1] > y.shape[2] else y,
    "equal to a height": lambda m, x, y: y * 2 if y.shape[1] == y.shape[2] else y,
    "the number of entries": lambda m, x, y: y * 2 if y.numel() > 1500 else y,
    "the smaller of a width and a height": lambda m, x, y: y * min(y.shape[1], y.shape[2]),
    "a loop over it": lambda m, x, y: sum((y for _ in range(min(y.shape[1], y.shape[2]))), y),
    "an attribute against a width of space": lambda m, x, y: _rows(m, y * 2 if y.shape[3] > m.dim else y),
    "an attribute as a bound in space": lambda m, x, y: _rows(m, y)[:, :, : min(y.shape[2], m.dim)],
    "a width alone": lambda m, x, y: y * 2 if y.shape[1] == 8 else y,
    "a dtype": lambda m, x, y: y if x.dtype != torch.uint8 else y * 2,
    "calls in a list": _calls,
    "the input written in place": _in_place,
    "a random number": lambda m, x, y: y * 2 if torch.rand(1).item() < 0.5 else y,
    "a random number in training": lambda m, x, y: y * 2 if m.training and torch.rand([]) < 0.5 else y,
    "a generator of its own": lambda m, x, y: y * m.draws.random(),
}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", QUESTIONS)
def test_the_student_answers_as_the_teacher_or_refuses(name: str, training: bool) -> None:
    torch.manual_seed(0)
    teacher = Asking(QUESTIONS[name], private="generator" in name).double().train(training)
    student = fxgrow.grow(teacher, 2.0, torch.randn(2, 3, 8, 8, dtype=torch.float64))
    assert student.get_parameter("b.weight").shape[0] == 24
    answered = 0
    for shape in ((2, 3, 8, 8), (2, 3, 12, 12), (3, 3, 6, 10), (1, 3, 16, 16)):
        x = torch.randn(shape, dtype=torch.float64)
        ours, theirs = x.clone(), x.clone()
        torch.manual_seed(1)
        expected = teacher(theirs)
        torch.manual_seed(1)
        try:
            found = student(ours)
        except fxgrow.GrowError:
            continue
        assert relative_error([found], [expected]) < 1e-10, shape
        assert torch.equal(ours, theirs)
        answered += 1
    assert answered, "the example's own shape is answered"


class FeedForward(nn.Module):
    """Two linear layers, between which something is asked of the activation and of a weight."""

    def __init__(self, asked: Callable[[Tensor, Tensor], bool]) -> None:
        super().__init__()
        self.first, self.wi, self.wo, self.asked = nn.Linear(3, 8), nn.Linear(8, 12), nn.Linear(12, 8), asked
        self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.wi(self.first(x)))
        if self.asked(x, self.wo.weight):
            x = x.to(self.wo.weight.dtype)
        return self.last(self.wo(x))


OF_NO_SIZE: dict[str, Callable[[Tensor, Tensor], bool]] = {
    "other dtypes": lambda x, w: x.dtype != w.dtype,
    "one dtype": lambda x, w: x.dtype == w.dtype and x.is_floating_point(),
    "real numbers": lambda x, w: x.is_floating_point() != w.is_floating_point(),
    "real numbers, as a function": lambda x, w: torch.is_floating_point(x) and torch.is_floating_point(w),
    "complex numbers": lambda x, w: x.is_complex() or torch.is_complex(w),
    "dimensions": lambda x, w: x.dim() == w.dim(),
    "dimensions, as an attribute": lambda x, w: x.ndim + w.ndim > 3,
    "bytes of an entry": lambda x, w: x.element_size() < w.element_size(),
    "signed numbers": lambda x, w: x.is_signed() == w.is_signed(),
}


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("name", OF_NO_SIZE)
def test_what_is_asked_of_no_size_pins_no_width(name: str, output: Literal["graph", "module"]) -> None:
    torch.manual_seed(0)
    teacher, x = FeedForward(OF_NO_SIZE[name]).double(), torch.randn(2, 3, dtype=torch.float64)
    for spec in (2.0, {"wi": 24}):
        student = fxgrow.grow(teacher, spec, x, output=output)
        assert student.get_parameter("wi.weight").shape[0] == 24
        assert_exact(teacher, student, x, 1e-10)
