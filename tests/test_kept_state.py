"""State that `forward` keeps in Python, and ways to the model's own parts that a copy has to keep."""

from __future__ import annotations

import array
import collections
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import fxgrow
from tests.test_what_a_result_depends_on import OUTPUTS, Net, example, made, same


class Box:
    """An object of the user's."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Private:
    __slots__ = ("__value",)

    def __init__(self) -> None:
        self.__value = 0

    value = property(lambda self: self.__value, lambda self, value: setattr(self, "_Private__value", value))


class OneSlot:
    __slots__ = "value"

    def __init__(self) -> None:
        self.value = 0


def _added(table: Any, key: Any) -> int:
    table[key] += 1
    return int(table[key])


def _counted(holder: Any, name: str) -> int:
    setattr(holder, name, getattr(holder, name) + 1)
    return int(getattr(holder, name))


def _grown_list(values: list[int]) -> int:
    values.append(0)
    return len(values)


def _closure() -> Callable[[], int]:
    number = 0

    def count() -> int:
        nonlocal number
        number += 1
        return number

    return count


class ByClass(Net):
    number = 0


COUNTERS: dict[str, tuple[Callable[[], Any], Callable[[Any], int]]] = {
    "a private attribute": (lambda: 0, lambda m: _counted(m, "_kept")),
    "an attribute of an object": (lambda: Box(0), lambda m: _counted(m._kept, "value")),
    "an object with a private slot": (Private, lambda m: _counted(m._kept, "value")),
    "an object with one slot": (OneSlot, lambda m: _counted(m._kept, "value")),
    "an object with slots": (lambda: Slotted(0), lambda m: _counted(m._kept, "value")),
    "a list in a dict in an object": (lambda: Box({"k": [0]}), lambda m: _added(m._kept.value["k"], 0)),
    "a variable of a closure": (_closure, lambda m: m._kept()),
    "an array of numpy": (lambda: np.zeros(1), lambda m: _added(m._kept, 0)),
    "an array": (lambda: array.array("l", [0]), lambda m: _added(m._kept, 0)),
    "a length": (list, lambda m: _grown_list(m._kept)),
    "a counter": (collections.Counter, lambda m: _added(m._kept, "k")),
}


def _counting(kind: str) -> Net:
    begin, count = COUNTERS[kind]
    teacher = made(lambda m, x: m.b(m.a(x)) * (2.0 if count(m) > 5 else 3.0))
    teacher._kept = begin()  # type: ignore[assignment]
    return teacher


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("kind", COUNTERS)
def test_a_student_counts_as_its_teacher_does(kind: str, output: Any) -> None:
    teacher = _counting(kind)
    student = fxgrow.grow(teacher, {"a": 16}, example(), output=output)
    for _ in range(8):
        assert same(student(example()), teacher(example()))


def test_a_counter_on_a_layer_is_kept_by_the_code_that_counts() -> None:
    teacher = made(lambda m, x: m.b(m.a(x)) * (2.0 if _counted(m.b, "_seen") > 5 else 3.0))
    teacher.b._seen = 0  # type: ignore[assignment]
    student = fxgrow.grow(teacher, {"a": 16}, example())
    for _ in range(8):
        assert same(student(example()), teacher(example()))


# -- ways to the model's own modules ---------------------------------------------------------------------


WAYS: dict[str, tuple[Callable[[Net], Any], Callable[[Any], bool]]] = {
    "the id of a module": (lambda m: id(m.b), lambda m: m.way == id(m.b)),
    "ids as keys": (lambda m: {id(m.b): 1, id(m.a.weight): 2}, lambda m: {id(m.b), id(m.a.weight)} == set(m.way)),
    "ids in a set": (lambda m: {id(m.b)}, lambda m: id(m.b) in m.way),
    "ids in a tuple": (lambda m: (id(m.b),), lambda m: id(m.b) in m.way),
    "ids in an object": (lambda m: Box({id(m.b): 1}), lambda m: id(m.b) in m.way.value),
    "ids in a closure": (lambda m: (lambda number: lambda other: number == id(other))(id(m.b)), lambda m: m.way(m.b)),
    "a weak reference": (lambda m: weakref.ref(m.b), lambda m: m.way() is m.b),
    "weak references in an object": (lambda m: Box([weakref.ref(m.b)]), lambda m: m.way.value[0]() is m.b),
    "weak keys": (lambda m: weakref.WeakKeyDictionary({m.b: 1}), lambda m: m.b in m.way),
    "weak values": (lambda m: weakref.WeakValueDictionary({1: m.b}), lambda m: m.way[1] is m.b),
    "a weak set": (lambda m: weakref.WeakSet([m.b]), lambda m: m.b in m.way),
    "a frozen set": (lambda m: frozenset([m.b]), lambda m: m.b in m.way),
}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("kind", WAYS)
def test_ways_to_modules_lead_to_those_of_the_student(kind: str, output: Any) -> None:
    make, leads = WAYS[kind]
    teacher = made(lambda m, x: m.b(m.a(x)) * (2.0 if leads(m) else 3.0))
    teacher.way = make(teacher)  # type: ignore[assignment]
    student = fxgrow.grow(teacher, {"a": 16}, example(), output=output)
    assert same(student(example()), teacher(example()))


# -- hooks of the model ----------------------------------------------------------------------------------


@pytest.mark.parametrize("output", OUTPUTS)
def test_hooks_of_the_model_run_once(output: Any) -> None:
    teacher = made(lambda m, x: m.b(m.a(x)))
    calls: list[str] = []
    teacher.register_forward_pre_hook(lambda m, args: (args[0] + 1,))
    teacher.register_forward_hook(lambda m, args, result: calls.append("after") or result * 3)  # type: ignore[func-returns-value]
    student = fxgrow.grow(teacher, {"a": 16}, example(), output=output)
    calls.clear()
    y = student(example())
    assert len(calls) in (0, 1)  # the list of the copy's hook is its own
    assert same(y, teacher(example()))
    again = fxgrow.grow(student, {"a": 24}, example(), output=output)
    assert same(again(example()), y)


# -- modes of torch in forward ---------------------------------------------------------------------------


class CountsEntries(TorchDispatchMode):
    number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.number += getattr(result, "numel", lambda: 0)()
        return result


def _count_entries(m: nn.Module, x: Tensor) -> Tensor:
    with CountsEntries() as mode:
        y = m.b(m.a(x))
    return y * (1 + 1 / mode.number)


@pytest.mark.parametrize("output", OUTPUTS)
def test_what_a_mode_counts_is_the_teachers(output: Any) -> None:
    with pytest.raises(fxgrow.GrowError, match="nothing of Net would grow"):
        fxgrow.grow(made(_count_entries), 2.0, example(), output=output)


# -- memory that buffers share ---------------------------------------------------------------------------


def _shares(other: Callable[[Net, Tensor], None], *, writes: bool = True) -> Net:
    def forward(m: Any, x: Tensor) -> Tensor:
        if writes:
            m.total.add_(1)
        return m.b(m.a(x)) + m.read()  # type: ignore[no-any-return]

    teacher = made(forward)
    memory = torch.zeros(4, dtype=torch.float64)
    teacher.register_buffer("total", memory[:2])
    other(teacher, memory)
    return teacher


def _another_buffer(m: Any, memory: Tensor) -> None:
    m.register_buffer("last", memory[1:])
    m.read = lambda: m.last.sum()


def _an_attribute(m: Any, memory: Tensor) -> None:
    m.last = memory[1:2]
    m.read = lambda: m.last.sum()


def _in_a_list(m: Any, memory: Tensor) -> None:
    m.parts = [memory[:1]]
    m.read = lambda: m.parts[0].sum()


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("other", [_another_buffer, _an_attribute, _in_a_list])
def test_a_buffer_that_is_written_to_is_not_also_another_tensor(other: Any, output: Any) -> None:
    with pytest.raises(fxgrow.GrowError, match="writes to the buffer 'total', which shares memory with"):
        fxgrow.grow(_shares(other), {"a": 16}, example(), output=output)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("other", [_another_buffer, _an_attribute, _in_a_list])
def test_buffers_that_are_only_read_may_share_memory(other: Any, output: Any) -> None:
    teacher = _shares(other, writes=False)
    student = fxgrow.grow(teacher, {"a": 16}, example(), output=output)
    assert same(student(example()), teacher(example()))


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_buffer_of_which_numpy_has_the_memory_is_named(output: Any) -> None:
    teacher = made(lambda m, x: m.b(m.a(x)) * m.total)
    teacher.register_buffer("total", torch.ones(1, dtype=torch.float64))
    teacher.counts = teacher.total.numpy()  # type: ignore[operator, assignment]
    with pytest.raises(fxgrow.GrowError, match="the buffer 'total' shares memory with an array of numpy"):
        fxgrow.grow(teacher, {"a": 16}, example(), output=output)


@pytest.mark.parametrize("output", OUTPUTS)
def test_batch_norms_that_share_their_statistics_by_memory_alone_are_named(output: Any) -> None:
    teacher = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)).double()
    teacher[2].running_mean = teacher[1].running_mean[:]  # type: ignore[index]
    with pytest.raises(fxgrow.GrowError, match="which shares memory with"):
        fxgrow.grow(teacher, 2.0, example(), output=output)
    teacher[2].running_mean = teacher[1].running_mean  # one tensor stays one
    student = fxgrow.grow(teacher, 2.0, example(), output=output)
    student.train()(example()), teacher.train()(example())
    assert same(student.eval()(example()), teacher.eval()(example()))


def _transposed(m: Any) -> None:
    m.b.weight = nn.Parameter(m.a.weight.t())


def _by_data(m: Any) -> None:
    m.b.weight.data = m.a.weight.data.t()


def _in_part(m: Any) -> None:
    m.b.bias = nn.Parameter(m.a.bias[2:5])


def _crossing(m: Any) -> None:
    """Columns of one matrix, of which two are in both."""
    whole = torch.randn(8, 14, dtype=torch.float64)
    m.a.weight, m.c = nn.Parameter(whole[:, :6]), nn.Parameter(whole[:, 4:])


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("share", [_transposed, _by_data, _in_part, _crossing])
def test_two_parameters_in_one_memory_are_named(share: Any, output: Any) -> None:
    teacher = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 6), nn.Linear(6, 3)).double()
    teacher.a, teacher.b = teacher[0], teacher[1]
    share(teacher)
    x = torch.randn(4, 6, dtype=torch.float64)
    with pytest.raises(fxgrow.GrowError, match=r"the parameters .* are two in one memory.*use one parameter in both"):
        fxgrow.grow(teacher, 2.0, x, output=output)


@pytest.mark.parametrize("output", OUTPUTS)
def test_parameters_that_lie_beside_each_other_in_one_memory_grow(output: Any) -> None:
    """One after the other, and the columns of two in turn."""
    teacher = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 6), nn.Linear(6, 3)).double()
    flat, rows = torch.randn(200, dtype=torch.float64), torch.randn(8, 8, dtype=torch.float64)
    teacher[0].bias, teacher[1].bias = nn.Parameter(flat[:8]), nn.Parameter(flat[8:14])
    teacher[0].weight, teacher[1].weight = nn.Parameter(rows[:, :6]), nn.Parameter(flat[100:148].view(6, 8))
    teacher.register_parameter("unread", nn.Parameter(rows[:, 6:]))
    x = torch.randn(4, 6, dtype=torch.float64)
    assert same(fxgrow.grow(teacher, 2.0, x, output=output)(x), teacher(x))
