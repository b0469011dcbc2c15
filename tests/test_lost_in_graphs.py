"""What a graph would not do as the model's code does it: it stays a call, or its values are written plainly."""

from __future__ import annotations

import contextlib
import enum
import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from fxgrow.capture.lost_in_graphs import _blocks
from tests.test_what_a_result_depends_on import OUTPUTS, Forward, example, made, same

# -- errors of torch that code catches -------------------------------------------------------------------


def _caught(m: nn.Module, x: Tensor) -> Tensor:
    h = m.a(x)
    try:
        h = F.avg_pool2d(h, 5)
    except RuntimeError:
        h = h * 3
    return m.b(h)


def _asked(m: nn.Module, x: Tensor) -> Tensor:
    h = m.a(x)
    try:
        h = h + h.shape[7]
    except IndexError:
        h = h * 3
    return m.b(h)


def _suppressed(m: nn.Module, x: Tensor) -> Tensor:
    h = m.a(x)
    y = h * 3
    with contextlib.suppress(RuntimeError, ValueError):
        y = F.avg_pool2d(h, 5)
    return m.b(y)


def _left(m: nn.Module, x: Tensor) -> Tensor:
    def doubled(h: Tensor) -> Tensor:
        y = h * 3
        try:
            y = F.avg_pool2d(h, 5)
        finally:
            return y  # noqa: B012 - as users do

    return m.b(doubled(m.a(x)))


def _in_a_function(m: nn.Module, x: Tensor) -> Tensor:
    def attempt(function: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        try:
            return function(h)
        except Exception:  # noqa: BLE001 - as users do
            return h * 3

    return m.b(attempt(lambda h: F.avg_pool2d(h, 5), m.a(x)))


_MADE: dict[str, Any] = {}
exec(  # code without a source, as that of a shell and of tools that generate it
    """
def caught(pool, h):
    try:
        return pool(h, 5)
    except RuntimeError:
        return h * 3

def entered(pool, h, context):
    with context:
        return pool(h, 2)
""",
    _MADE,
)


def _without_source(m: nn.Module, x: Tensor) -> Tensor:
    result: Tensor = m.b(_MADE["caught"](F.avg_pool2d, m.a(x)))
    return result


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", [_caught, _asked, _suppressed, _left, _in_a_function, _without_source])
def test_code_that_catches_an_error_goes_on_in_the_student(forward: Forward, output: Any) -> None:
    teacher = made(forward)
    student = fxgrow.grow(teacher, {"a": 16}, example(), output=output)
    assert "KeyError" not in str(fxgrow.plan_of(student))
    for x in (example(), example()[:, :, :4, :4]):
        assert same(student(x), teacher(x))


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        try:
            return F.avg_pool2d(self.layer(x), 5)
        except RuntimeError:
            return self.layer(x)


def test_the_module_that_catches_stays_a_call_and_no_other() -> None:
    teacher = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sequential(Inner(), nn.ReLU()), nn.Conv2d(8, 2, 1)).double()
    student = fxgrow.grow(teacher, 2.0, example())
    assert [n.target for n in student.graph.nodes if n.op == "call_module"] == ["0", "1.0", "1.1", "2"]
    assert student.get_parameter("1.0.layer.weight").shape == (16, 16, 1, 1)
    for x in (example(), example()[:, :, :4, :4]):
        assert same(student(x), teacher(x))


def _imports(m: nn.Module, x: Tensor) -> Tensor:
    h = m.a(x)
    try:
        import no_such_package  # noqa: F401

        h = h * 5
    except ImportError:
        h = h * 2
    return m.b(h)


def _looks_up(m: nn.Module, x: Tensor) -> Tensor:
    try:
        y = m.a(x) * {"k": 2.0}["z"]
    except KeyError:
        y = m.a(x)
    return m.b(y)


def _enters_without_source(m: nn.Module, x: Tensor) -> Tensor:
    result: Tensor = m.b(_MADE["entered"](F.avg_pool2d, m.a(x), contextlib.nullcontext()))
    return result


@pytest.mark.parametrize("forward", [_imports, _looks_up, _enters_without_source])
def test_code_that_catches_what_no_size_raises_is_traced(forward: Forward) -> None:
    student = fxgrow.grow(made(forward), {"a": 16}, example())
    assert any(node.target == "a" for node in student.graph.nodes)


def _divided(m: nn.Module, x: Tensor) -> Tensor:
    try:
        scale = 24 / (x.shape[3] - 4)
    except ZeroDivisionError:
        scale = 5.0
    return m.b(m.a(x)) * scale


def _out_of_range(m: nn.Module, x: Tensor) -> Tensor:
    try:
        scale = 1 / 10.0 ** (400 // x.shape[3])
    except OverflowError:
        scale = 0.5
    return m.b(m.a(x)) * scale


def _beyond_the_end(m: nn.Module, x: Tensor) -> Tensor:
    h = m.a(x)
    try:
        h = h * x[0, 0, 0, 4]
    except LookupError:
        h = h * 3
    return m.b(h)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", [_divided, _out_of_range, _beyond_the_end])
def test_errors_that_the_sizes_of_inputs_raise_are_caught_as_in_the_teacher(forward: Forward, output: Any) -> None:
    teacher = made(forward)
    student = fxgrow.grow(teacher, {"a": 16}, example(), output=output)
    for x in (example(), example()[:, :, :, :1], example()[:, :, :, :4]):
        assert same(student(x), teacher(x))


try:

    class DefinedInTry(nn.Module):
        """As code has it that defines another class where a library is missing."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Any:
            return self.b(self.called_in_try(x) if self.training else torch.relu(self.a(x)))

        def called_in_try(self, x: Tensor) -> Any:
            return torch.relu(self.a(x))

except Exception:
    raise


class CallsInTry(DefinedInTry):
    def forward(self, x: Tensor) -> Any:
        try:
            return super().forward(x)
        except RuntimeError:
            return x


def test_a_try_around_the_definition_of_a_class_catches_nothing_in_its_calls() -> None:
    student = fxgrow.grow(DefinedInTry().eval(), 1.5, torch.randn(2, 4))
    assert "kept as" not in "\n".join(fxgrow.plan_of(student).notes)
    caller = fxgrow.grow(CallsInTry().eval(), 1.5, torch.randn(2, 4))
    assert "where torch raises an error" in "\n".join(fxgrow.plan_of(caller).notes)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_a_group_of_errors_that_code_catches_is_seen() -> None:
    source = "try:\n    y = f(x)\nexcept* RuntimeError:\n    y = x\n"
    assert _blocks(source) == ((1, 2, 2),)  # the lines of the try, and of the first and last statement in it


def _tries_a_view(m: nn.Module, x: Tensor) -> Tensor:
    h = m.a(x)
    try:
        h = h.view(len(h), 7, -1).view_as(h) * 2
    except Exception:  # noqa: BLE001 - as users do
        h = h * 3
    return m.b(h)


def _drops_what_fails(m: nn.Module, x: Tensor) -> Tensor:
    h = m.a(x)
    outcome: Future[Tensor] = Future()
    try:
        outcome.set_result(h.view(len(h), 16, -1))
    except BaseException as error:  # noqa: BLE001 - as executors do
        outcome.set_exception(error)
    return m.b(h) * (2.0 if outcome.exception() else 3.0)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(("forward", "size"), [(_tries_a_view, 14), (_drops_what_fails, 16)])
def test_code_that_catches_errors_does_not_hide_that_the_student_takes_another_path(
    forward: Forward, size: int, output: Any
) -> None:
    teacher, x = made(forward), example()[:, :, :3, :3]  # in which the view fails at 8 channels
    with pytest.raises(fxgrow.GrowError, match="runs where the teacher runs"):
        fxgrow.grow(teacher, {"a": size}, x, output=output)


def _applies_and_goes_on(m: nn.Module, x: Tensor) -> Tensor:
    h = m.a(x)
    try:
        scale = h.detach().clone().apply_(lambda value: value * 2).sum()
    except Exception:  # noqa: BLE001 - as users do
        scale = 3.0
    return m.b(h) * scale


@pytest.mark.parametrize("output", OUTPUTS)
def test_code_that_catches_errors_does_not_hide_what_is_refused(output: Any) -> None:
    with pytest.raises(fxgrow.GrowError, match="a Python function for each entry"):
        fxgrow.grow(made(_applies_and_goes_on), {"a": 16}, example(), output=output)


# -- numbers that are of no class of Python's ------------------------------------------------------------


class Dim(enum.IntEnum):
    CHANNELS = 1


class Mode(str, enum.Enum):
    MEAN = "mean"


class Count(int):
    pass


NUMBERS: list[Forward] = [
    lambda m, x: m.b(m.a(x)) / np.sqrt(6),
    lambda m, x: np.float64(2.0) * m.b(m.a(x)),
    lambda m, x: torch.add(m.b(m.a(x)), 1, alpha=np.float64(0.5)),
    lambda m, x: (m.b(m.a(x)) * np.complex128(1 + 2j)).real,
    lambda m, x: m.b(m.a(x)) / np.sqrt(m.b.in_channels),
    lambda m, x: m.b(m.a(x)).softmax(Dim.CHANNELS),
    lambda m, x: m.b(m.a(x))[:, : Dim.CHANNELS],
    lambda m, x: F.mse_loss(m.b(m.a(x)), x[:, :2], reduction=Mode.MEAN),
    lambda m, x: m.b(m.a(x)) * Count(3),
]


@pytest.mark.parametrize("forward", NUMBERS)
def test_numbers_of_other_classes_are_written_plainly(forward: Forward) -> None:
    teacher = made(forward)
    student = fxgrow.grow(teacher, {"a": 16}, example())
    assert same(student(example()), teacher(example()))


RESULTS: list[Forward] = [
    lambda m, x: (m.b(m.a(x)), np.float64(2.0)),
    lambda m, x: {"y": m.b(m.a(x)), "n": Dim.CHANNELS},
    lambda m, x: {Mode.MEAN: m.b(m.a(x))},
    lambda m, x: [[m.b(m.a(x)), Count(3)]],
]


@pytest.mark.parametrize("forward", RESULTS)
def test_numbers_of_other_classes_are_returned_as_they_are(forward: Forward) -> None:
    teacher = made(forward)
    ours, theirs = (model(example()) for model in (fxgrow.grow(teacher, {"a": 16}, example()), teacher))
    plain = [v for r in (ours, theirs) for v in torch.utils._pytree.tree_leaves(r) if not isinstance(v, Tensor)]
    assert [type(v) for v in plain[: len(plain) // 2]] == [type(v) for v in plain[len(plain) // 2 :]]
    assert same(ours, theirs)


TWO = np.float64(2.0)


class HasDefaults(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor, scale: Any = TWO, dim: Any = Dim.CHANNELS, *, mode: Any = Mode.MEAN) -> Tensor:
        return (self.b(self.a(x)) * scale).softmax(dim) * (2 if mode is Mode.MEAN else 3)


@pytest.mark.parametrize("output", OUTPUTS)
def test_defaults_of_other_classes_can_be_left_out_or_given(output: Any) -> None:
    teacher = HasDefaults().double()
    student = fxgrow.grow(teacher, {"a": 16}, example(), output=output)
    assert same(student(example()), teacher(example()))
    given = {"x": example(), "scale": np.float64(3.0), "dim": Dim.CHANNELS, "mode": Mode.MEAN}
    student = fxgrow.grow(teacher, {"a": 16}, given, output=output)
    assert same(student(**given), teacher(**given))


class CatchesWhatFails(nn.Module):
    """Calls of torch that fail in every run, at the start and at the end, and what its code does then."""

    def __init__(self, fails: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.fails = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1), fails

    def forward(self, x: Tensor) -> Tensor:
        try:
            h = self.fails(x)
        except (RuntimeError, IndexError):
            h = x * 3
        h = self.b(self.a(h).relu())
        try:
            return self.fails(h)
        except (RuntimeError, IndexError):
            return h


FAILS: dict[str, Callable[[Tensor], Tensor]] = {
    "a view": lambda x: x.view(7, 7, 7),
    "a product": lambda x: x @ x[:, :, 1:],
    "a concatenation": lambda x: torch.cat([x, x[0]]),
    "a dimension that is not there": lambda x: x.sum(7),
    "a sum of other sizes": lambda x: x + x[:, :2],
    "two of them": lambda x: x.mT.view(7, 7, 7),
}


@pytest.mark.parametrize("name", FAILS)
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_call_that_fails_in_the_teacher_may_fail_in_the_student(name: str, output: Any) -> None:
    teacher = CatchesWhatFails(FAILS[name]).double()
    student = fxgrow.grow(teacher, {"a": 16}, example(), output=output)
    assert student.get_parameter("a.weight").shape[0] == 16
    assert same(student(example()), teacher(example()))


# -- arguments that forward changes ----------------------------------------------------------------------


class ChangesItsArguments(HasDefaults):
    def forward(self, x: Tensor, seen: list[int], told: dict[str, Any]) -> Tensor:  # type: ignore[override]
        seen.append(len(seen))
        told["a"]["n"] = told["a"].pop("k")
        return self.b(self.a(x)) * told["a"]["n"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_student_changes_the_arguments_that_its_teacher_changes(output: Any) -> None:
    teacher = ChangesItsArguments().double()
    student = fxgrow.grow(teacher, {"a": 16}, (example(), [5], {"a": {"k": 2}}), output=output)
    ours, theirs = ([5], {"a": {"k": 2}}), ([5], {"a": {"k": 2}})
    assert same(student(example(), *ours), teacher(example(), *theirs))
    assert ours == theirs == ([5, 1], {"a": {"n": 2}})
