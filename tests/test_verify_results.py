"""What `verify` says of results that are more than real numbers: none passes that is another function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.report.report import Report
from fxgrow.report.results import relative_error

X = torch.randn(4, 3)
INF, NAN = float("inf"), float("nan")


class Returns(nn.Module):
    """A layer, and what is made of its result."""

    def __init__(self, made: Callable[[Tensor], Any], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(3, 8, dtype=dtype), nn.Linear(8, 4, dtype=dtype)
        self.made = made

    def forward(self, x: Tensor) -> Any:
        return self.made(self.head(self.layer(x).relu()))


def pair(right: Callable[[Tensor], Any], wrong: Callable[[Tensor], Any]) -> tuple[Returns, Returns]:
    """A teacher, and a student with its weights and another result."""
    teacher, student = Returns(right).eval(), Returns(wrong).eval()
    student.load_state_dict(teacher.state_dict())
    return teacher, student


def _masked(value: float) -> Callable[[Tensor], Tensor]:
    return lambda y: y.masked_fill(torch.eye(4, dtype=torch.bool), value)


SPECIAL: dict[str, Callable[[Tensor], Any]] = {
    "minus infinity": _masked(-INF),
    "infinity": _masked(INF),
    "nan": _masked(NAN),
    "complex": torch.fft.fft,
    "a number": lambda y: (y, y.shape[1], 0.5),
    "a float": lambda y: (y, y.detach().double().mean().item()),
    "a dictionary": lambda y: {"y": y, "n": 4, "of": "text"},
}


@pytest.mark.parametrize("made", SPECIAL.values(), ids=SPECIAL)
def test_a_student_that_returns_such_is_the_same(made: Callable[[Tensor], Any]) -> None:
    teacher = Returns(made).eval()
    student = fxgrow.grow(teacher, 2.0, X, output="module")
    report = fxgrow.verify(teacher, student, X)
    assert report.exact
    assert max(report.errors.values()) < 1e-5


def _except_one(y: Tensor, value: float) -> Tensor:
    y = y.clone()
    y[0, 1] = value
    return y


OTHER_VALUES: dict[str, tuple[Callable[[Tensor], Any], Callable[[Tensor], Any]]] = {
    "imaginary parts": (torch.fft.fft, lambda y: torch.fft.fft(y).conj()),
    "real for complex": (torch.fft.fft, lambda y: torch.fft.fft(y).real),
    "behind infinities": (_masked(-INF), lambda y: _masked(-INF)(y * 1.5)),
    "infinity of another sign": (_masked(-INF), _masked(INF)),
    "infinity for a number": (_masked(0.0), _masked(-INF)),
    "a number for infinity": (_masked(-INF), _masked(-1e4)),
    "nan for a number": (lambda y: y, lambda y: _except_one(y, NAN)),
    "a number for nan": (lambda y: _except_one(y, NAN), lambda y: y),
    "behind nan": (_masked(NAN), lambda y: _masked(NAN)(y + 1)),
    "another number": (lambda y: (y, 3), lambda y: (y, 4)),
    "another float": (lambda y: (y, 0.25), lambda y: (y, 0.5)),
}


@pytest.mark.parametrize(("right", "wrong"), OTHER_VALUES.values(), ids=OTHER_VALUES)
def test_another_value_is_seen(right: Callable[[Tensor], Any], wrong: Callable[[Tensor], Any]) -> None:
    report = fxgrow.verify(*pair(right, wrong), X)
    assert not report.exact
    assert "NOT the same function" in str(report)
    with pytest.raises(fxgrow.EquivalenceError):
        report.raise_if_different()


OTHER_FORMS: dict[str, tuple[Callable[[Tensor], Any], Callable[[Tensor], Any], str]] = {
    "another key": (lambda y: {"a": y}, lambda y: {"b": y}, r"\['a'\].*has none"),
    "another text": (lambda y: (y, "a"), lambda y: (y, "b"), "returns 'b'.*returns 'a'"),
    "none for a number": (lambda y: (y, 3), lambda y: (y, None), "returns None"),
    "a truth value": (lambda y: (y, True), lambda y: (y, False), "returns False"),
    "one entry more": (lambda y: (y,), lambda y: (y, 3), r"\[1\].*has none"),
    "a dtype": (lambda y: (y, y.dtype), lambda y: (y, torch.float64), "float64"),
}


@pytest.mark.parametrize(("right", "wrong", "says"), OTHER_FORMS.values(), ids=OTHER_FORMS)
def test_another_form_is_named(right: Callable[[Tensor], Any], wrong: Callable[[Tensor], Any], says: str) -> None:
    with pytest.raises(fxgrow.GrowError, match=says):
        fxgrow.verify(*pair(right, wrong), X)


def test_a_teacher_that_overflows_in_its_own_dtype_excuses_nothing() -> None:
    def large(y: Tensor) -> Tensor:
        return torch.cat([y, (y * 0 + 1) * (3e38 if y.dtype is torch.float64 else 2e38) * 2], 1)

    teacher, student = pair(large, lambda y: large(y * 1.01))
    assert not fxgrow.verify(teacher, student, X).exact


@pytest.mark.parametrize(
    ("mine", "theirs", "error"),
    [
        ([1.0, -INF], [1.0, -INF], 0.0),
        ([1.0, NAN], [1.0, NAN], 0.0),
        ([1.5, INF, NAN], [2.0, INF, NAN], 0.25),
        ([1.0, INF], [1.0, 2.0], INF),
        ([1.0, 2.0], [1.0, NAN], INF),
        ([INF], [-INF], INF),
        ([0.5], [0.0], INF),
        ([], [], 0.0),
    ],
)
def test_errors_leave_out_what_is_equally_not_finite(mine: list[float], theirs: list[float], error: float) -> None:
    found = relative_error(torch.tensor(mine), torch.tensor(theirs))
    assert found == error or (error == INF and found > 1e300)


def test_errors_of_complex_numbers_count_both_parts() -> None:
    assert relative_error(torch.tensor([3 + 4j]), torch.tensor([3 - 4j])) == pytest.approx(8 / 5)


def _report(error: float, rounding: float, tolerance: float = 1e-5) -> Report:
    return Report({"eval": error}, tolerance, {"eval": rounding}, (), (1, 1), (1, 1))


@pytest.mark.parametrize(
    ("error", "rounding", "tolerance", "exact"),
    [
        (4e-4, 1e-4, 1e-5, True),
        (5e-4, 1e-4, 1e-5, False),
        (3e-2, 1e-2, 1e-5, True),
        (3e-2, 1.1e-2, 1e-5, False),
        (2e-1, 7e-2, 8e-2, True),
        (2e-1, 9e-2, 8e-2, False),
        (1e-5, float("inf"), 1e-5, True),
        (float("inf"), float("inf"), 1e-5, False),
        (float("inf"), 1e-3, 1e-5, False),
    ],
)
def test_the_rounding_of_a_teacher_excuses_as_much_and_no_more(
    error: float, rounding: float, tolerance: float, exact: bool
) -> None:
    assert _report(error, rounding, tolerance).exact == exact


def test_a_teacher_whose_own_rounding_is_large_shows_nothing_and_the_report_says_so() -> None:
    report = _report(0.3, 0.2)
    assert "nothing is shown; the teacher's own rounding is as large, so compare both in float64" in str(report)
    with pytest.raises(fxgrow.EquivalenceError, match="compare both in float64"):
        report.raise_if_different()
    other = _report(3.0, 0.2)
    assert "NOT the same function" in str(other)
    with pytest.raises(fxgrow.EquivalenceError) as raised:
        other.raise_if_different()
    assert "float64" not in str(raised.value)


@pytest.mark.parametrize("x", [X * NAN, X * INF, X[:0]], ids=["nan", "infinity", "empty"])
@pytest.mark.parametrize(
    "made", [lambda y: y, lambda y: (y, y.detach().sum().item() * NAN)], ids=["a tensor", "a float"]
)
def test_inputs_that_leave_nothing_to_compare_are_refused(made: Any, x: Tensor) -> None:
    teacher, student = Returns(made), Returns(made)
    with pytest.raises(fxgrow.GrowError, match="the teacher returns no finite number on float"):
        fxgrow.verify(teacher, student, x)


def test_a_mode_in_which_nothing_is_compared_is_named() -> None:
    class Divides(Returns):
        def forward(self, x: Tensor) -> Any:
            y = super().forward(x)
            return y / 0 if self.training else y

    teacher = Divides(lambda y: y)
    report = fxgrow.verify(teacher, fxgrow.grow(teacher, 2.0, X), X)
    assert report.exact
    assert "the teacher returns no finite number in train mode, where nothing is compared" in report.notes
