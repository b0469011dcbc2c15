"""The text of a tensor tells its numbers: the student's is the teacher's, or growing is refused."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
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


def _of_batch(m: nn.Module, x: Tensor) -> Any:
    return _two(m, x)[1], f"{len(x)} images"


def _of_shape(m: nn.Module, x: Tensor) -> Any:
    return _two(m, x)[1], "x".join(map(str, x.shape)), "%s" % (x.shape,), repr(x.shape)  # noqa: UP031 - as users do


def _as_key(m: nn.Module, x: Tensor) -> Any:
    return {f"batch{x.shape[0]}": _two(m, x)[1]}


def _as_number(m: nn.Module, x: Tensor) -> Any:
    return _two(m, x)[1] * int(str(len(x)))


def _searched(m: nn.Module, x: Tensor) -> Any:
    return _two(m, x)[1] * str(tuple(x.shape)).count("2")


def _looked_up(m: nn.Module, x: Tensor) -> Any:
    return _two(m, x)[1] * {"2x3x6x6": 2.0}.get("x".join(map(str, x.shape)), 3.0)


RETURNED: list[Forward] = [_of_batch, _of_shape, _as_key]
DECIDING: list[Forward] = [_as_number, _searched, _looked_up]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", [*RETURNED, *DECIDING])
def test_a_text_of_a_size_and_what_it_decides_are_those_of_the_inputs(forward: Forward, output: str) -> None:
    teacher = made(forward)
    student = grown(teacher, output)
    assert student is not None
    assert same(student(example()), teacher(example()))
    other = torch.cat([example(), example()])
    if output == "graph":
        with pytest.raises(fxgrow.GrowError, match="another path"):
            student(other)
    else:
        assert same(student(other), teacher(other))


def _of_dtype(m: nn.Module, x: Tensor) -> Any:
    return _two(m, x)[1], str(x.dtype), f"{x.dtype}", str(x.device), x.type()


def _by_dtype(m: nn.Module, x: Tensor) -> Any:
    return _two(m, x)[1] * (2 if "64" in str(x.dtype) else 3)


def _by_type(m: nn.Module, x: Tensor) -> Any:
    return _two(m, x)[1] * (2 if x.type() == "torch.DoubleTensor" else 3)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", [_of_dtype, _by_dtype, _by_type])
def test_the_text_of_a_dtype_is_the_teachers(forward: Forward, output: str) -> None:
    teacher = made(forward)
    student = grown(teacher, output)
    assert student is not None
    assert same(student(example()), teacher(example()))
    assert "is kept as one call" not in str(fxgrow.plan_of(student).notes)


@pytest.mark.parametrize("forward", [_of_dtype, _by_dtype, _by_type])
def test_a_graph_keeps_to_the_dtype_whose_text_it_was_told(forward: Forward) -> None:
    teacher = made(forward)
    student = grown(teacher, "graph")
    assert student is not None
    with pytest.raises(fxgrow.GrowError, match="another path"):
        student.float()(example().float())


def _in_a_message(m: nn.Module, x: Tensor) -> Any:
    torch._assert(x.ndim == 4, f"expected a batch of images, not {x.shape} of {x.dtype}")
    print("images", x.shape, x.dtype)  # noqa: T201 - as users do
    logging.getLogger("net").warning("%s images of %s", x.shape[0], x.dtype)
    return {"out": _two(m, x)[1]}


def test_a_message_binds_no_graph(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    teacher = made(_in_a_message)
    student = grown(teacher, "graph")
    assert student is not None
    assert "Proxy" not in capsys.readouterr().out + caplog.text
    other = torch.cat([example(), example()])
    assert same(student(other), teacher(other))
    assert student.float()(example().float())["out"].dtype == torch.float32
