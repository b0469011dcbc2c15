"""The text of a tensor tells its numbers: the student's is the teacher's, or growing is refused."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.test_what_a_result_depends_on import OUTPUTS, Forward, _two, example, grown, made, same


def _returned(m: nn.Module, x: Tensor) -> Any:
    _, y, _ = _two(m, x)
    return y, str(y.detach().sum().round()), f"{y.detach().mean().round()}"


def _returned_constant(m: nn.Module, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    return y, f"{torch.tensor(h.shape[1])}", repr(torch.tensor([h.shape[1]]))


def _key(m: nn.Module, x: Tensor) -> Any:
    h, y, z = _two(m, x)
    return {"tensor(8.)": y}.get(str(torch.tensor(float(h.shape[1]))), z)


def _length(m: nn.Module, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    return y * len(repr(torch.tensor(h.shape[1] * 100)))


def _length_of_an_activation(m: nn.Module, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    return y * len(str((h * 0).detach()))


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", [_returned, _returned_constant, _key, _length, _length_of_an_activation])
def test_the_text_of_a_tensor_is_the_teachers(forward: Forward, output: str) -> None:
    teacher = made(forward)
    student = grown(teacher, output)
    assert student is None or same(student(example()), teacher(example()))


def _printing(m: nn.Module, x: Tensor) -> Any:
    h = m.a(x)
    sys.stdout.write(f"{h.mean()} {h.shape} {torch.tensor([2.0])}\n")
    return m.b(h)


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_model_that_prints_grows(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = made(_printing)
    student = grown(teacher, output)
    assert student is not None
    assert student.get_parameter("a.weight").shape[0] == 16
    assert "Proxy" not in capsys.readouterr().out
    assert same(student(example()), teacher(example()))
    assert capsys.readouterr().out.count("tensor([2.])") == 2
