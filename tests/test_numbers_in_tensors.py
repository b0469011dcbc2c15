"""Numbers that torch puts into tensors below every call, and tensors under another name, are the teacher's."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxgrow
from tests.test_what_a_result_depends_on import OUTPUTS, Forward, Net, _two, example, grown, made, same


def _index_by_list(m: Net, x: Tensor) -> Any:
    h = m.a(x)
    return m.b(h), x[:, 0, [h.shape[1] % 5, 0]].sum((0, 1))


def _index_by_nested_list(m: Net, x: Tensor) -> Any:
    h = m.a(x)
    return m.b(h), x[:, :, [[0, h.shape[1] % 3], [1, h.shape[1] % 5]]].sum((0, 1))


def _index_by_range(m: Net, x: Tensor) -> Any:
    h = m.a(x)
    return m.b(h), x[range(h.shape[1] // 8)]


def _index_by_array(m: Net, x: Tensor) -> Any:
    h = m.a(x)
    return m.b(h), x[:, :, np.array([h.shape[1] % 5, 1])]


def _index_of_a_weight(m: Net, x: Tensor) -> Any:
    h = m.a(x)
    return m.b(h) + m.table[[h.shape[1] % 5]]


def _written_by_list(m: Net, x: Tensor) -> Any:
    h, z = m.a(x), x.clone()
    z[:, :, [h.shape[1] % 5, 0]] = 0.0
    return m.b(h), z


def _constant_written_by_list(m: Net, x: Tensor) -> Any:
    h, z = m.a(x), torch.zeros(3, dtype=x.dtype)
    z[[0, h.shape[1] % 3]] = torch.tensor([1.0, 2.0], dtype=x.dtype)
    return m.b(h), z


def _new_tensor_added(m: Net, x: Tensor) -> Any:
    h = m.a(x)
    return m.b(h) + h.new_tensor(math.log(h.shape[1]))


def _new_tensor_as_index(m: Net, x: Tensor) -> Any:
    h = m.a(x)
    return m.b(h), torch.take(x, x.new_tensor([h.shape[1], 1], dtype=torch.long))


def _distribution(m: Net, x: Tensor) -> Any:
    h = m.a(x)
    return m.b(h), torch.distributions.Normal(x, h.shape[1] ** -0.5, validate_args=False).log_prob(x * 2)


def _view_made_before_a_write(m: Net, x: Tensor) -> Any:
    h, z = m.a(x), torch.zeros(5, dtype=x.dtype)
    view = z[h.shape[1] % 5]
    z.copy_(x[0, 0, 0, :5])
    return m.b(h) + view


def _flat_view_made_before_writes(m: Net, x: Tensor) -> Any:
    h, z = m.a(x), torch.zeros(4, 5, dtype=x.dtype)
    view = z.view(-1)[h.shape[1] // 2 :][:2]
    z[0] = x[0, 0, 0, :5]
    z[1:] = x[0, 1, :3, :5]
    return m.b(h) + view.view(2, 1, 1)


class Marked(Tensor):
    """A tensor under another name."""


def _alias_picked_by_width(m: Net, x: Tensor) -> Any:
    h, y, z = _two(m, x)
    return (y if h.shape[1] < 10 else z).as_subclass(Marked).as_subclass(Tensor) * 2


NUMBERS = [
    _index_by_list, _index_by_nested_list, _index_by_range, _index_by_array, _index_of_a_weight, _written_by_list,
    _constant_written_by_list, _new_tensor_added, _new_tensor_as_index, _distribution, _view_made_before_a_write,
    _flat_view_made_before_writes, _alias_picked_by_width,
]  # fmt: skip


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", NUMBERS)
def test_numbers_that_torch_puts_into_a_tensor_are_the_teachers(forward: Forward, output: str) -> None:
    teacher = made(forward)
    teacher.table = nn.Parameter(torch.arange(5.0, dtype=torch.float64))
    student = grown(teacher, output)
    assert student is None or same(student(example()), teacher(example()))


def _mean_of_images(m: Net, x: Tensor) -> Any:
    return m.b(m.a(x - x.new_tensor([0.5, 0.4, 0.3]).view(3, 1, 1))), x[:, [2, 1, 0]]


def _standard_normal(m: Net, x: Tensor) -> Any:
    return m.b(torch.distributions.Normal(0.0, 2.0, validate_args=False).cdf(m.a(x)))


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", [_mean_of_images, _standard_normal])
def test_numbers_that_follow_no_width_are_no_reason_to_stay(forward: Forward, output: str) -> None:
    teacher = made(forward)
    student = grown(teacher, output)
    assert student is not None
    assert student.a.weight.shape[0] == 16
    assert same(student(example()), teacher(example()))
    more = torch.cat([example(), example()])
    assert same(student(more), teacher(more))


def _as_subclass(m: Net, x: Tensor) -> Any:
    return m.b(m.a(x).as_subclass(Marked) * 2).as_subclass(Tensor)  # type: ignore[arg-type]


def _as_parameter(m: Net, x: Tensor) -> Any:
    return m.b(m.a(x) + nn.Parameter(m.a(x).detach()))


def _alias_that_is_written_to(m: Net, x: Tensor) -> Any:
    h = m.a(x).clone()
    h.as_subclass(Marked).mul_(2)  # type: ignore[arg-type]
    return m.b(h)


def _alias_read_after_a_write(m: Net, x: Tensor) -> Any:
    h = m.a(x).clone()
    alias = h.as_subclass(Marked)  # type: ignore[arg-type]
    h.mul_(2)
    return m.b(alias).as_subclass(Tensor)


def _deep_copies(m: Net, x: Tensor) -> Any:
    h = m.a(x)
    weight = copy.deepcopy(m.a.weight)
    return m.b(h + copy.deepcopy(h.detach()) + nn.functional.conv2d(x, weight))


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(
    "forward", [_deep_copies, _as_subclass, _as_parameter, _alias_that_is_written_to, _alias_read_after_a_write]
)
def test_an_alias_is_the_tensor_itself(forward: Forward, output: str) -> None:
    teacher = made(forward)
    student = grown(teacher, output)
    assert student is not None
    assert student.a.weight.shape[0] == 16
    assert same(student(example()), teacher(example()))


def test_a_tensor_whose_numbers_no_run_can_know_is_refused() -> None:
    hidden = torch.empty(1, device="meta", dtype=torch.float64)
    teacher = made(lambda m, x: m.b(m.a(x)) + (hidden if x.is_meta else 1))
    student = grown(teacher, "module")
    assert student is None or same(student(example()), teacher(example()))
    with pytest.raises(fxgrow.GrowError, match="on the meta device that no operation made"):
        fxgrow.grow(made(lambda m, x: m.b(m.a(x)) + hidden), 2.0, example())


def _in_a_thread(make: Callable[[], Tensor]) -> Tensor:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(make).result()


def _read_from_a_thread(m: Net, x: Tensor) -> Any:
    h = m.a(x)
    return m.b(_in_a_thread(lambda: h * h.shape[1]))


def _returned_from_a_thread(m: Net, x: Tensor) -> Any:
    h, y, z = _two(m, x)
    return _in_a_thread(lambda: (y if h.shape[1] < 10 else z) * 1.0)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", [_read_from_a_thread, _returned_from_a_thread])
def test_what_another_thread_computes_is_refused(forward: Forward, output: Any) -> None:
    with pytest.raises(fxgrow.GrowError, match="on the meta device that no operation made"):
        fxgrow.grow(made(forward), 2.0, example(), output=output)


def _derivative_inside(m: Net, x: Tensor) -> Any:
    h = m.a(x)
    value, tangent = torch.func.jvp(m.b, (h,), (torch.ones_like(h),))
    return value + tangent


@pytest.mark.parametrize("output", OUTPUTS)
def test_forward_mode_derivatives_are_exact_or_refused(output: str) -> None:
    teacher = made(_derivative_inside)
    student = grown(teacher, output)
    assert student is None or same(student(example()), teacher(example()))


def _written_by_numpy(m: Net, x: Tensor) -> Any:
    h = m.a(x).detach()
    h.numpy()[:, -1] = 0.5
    return m.b(h)


def _centred_by_numpy(m: Net, x: Tensor) -> Any:
    h = m.a(x).detach()
    array = np.asarray(h)
    array -= array.mean(1, keepdims=True)
    return m.b(h)


def _written_by_python(m: Net, x: Tensor) -> Any:
    return m.b(m.a(x).detach().apply_(lambda value: 1 / value))


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", [_written_by_numpy, _centred_by_numpy])
def test_memory_that_is_written_beside_every_operator_is_refused(forward: Forward, output: Any) -> None:
    with pytest.raises(fxgrow.GrowError, match=r"shares the memory .* numpy \(at .*test_numbers_in_tensors"):
        fxgrow.grow(made(forward), 2.0, example(), output=output)


@pytest.mark.parametrize("output", OUTPUTS)
def test_python_functions_of_each_entry_are_refused(output: Any) -> None:
    with pytest.raises(fxgrow.GrowError, match=r"calls a Python function for each entry of a tensor \(apply_, map_\)"):
        fxgrow.grow(made(_written_by_python), 2.0, example(), output=output)


@pytest.mark.parametrize("output", OUTPUTS)
def test_numpy_may_read_what_follows_no_width(output: str) -> None:
    teacher = made(lambda m, x: m.b(m.a(x)) * float(np.abs(x.numpy()).max()))
    student = grown(teacher, output)
    assert student is not None
    assert student.a.weight.shape[0] == 16
    assert same(student(example()), teacher(example()))


# Of a wide tensor, whatever Python computes of its numbers may be another thing for more channels.
READ_BY_PYTHON: dict[str, Callable[[Any, Tensor], Any]] = {
    "a mean of numpy": lambda m, h: h.detach().numpy().mean() > 0,
    "numpy on the CPU": lambda m, h: np.asarray(h.detach().cpu()).std() > 0.7,
    "numbers in a list": lambda m, h: len(set(h.flatten().tolist())) % 3 > 0,
    "a hash of a list": lambda m, h: hash(tuple(h[0, :, 0, 0].tolist())) % 2,
    "the text of a tensor": lambda m, h: len(str(h.detach())) % 2,
    "a text with a tensor": lambda m, h: len(f"{h.detach()}") % 2,
    "the text of a parameter": lambda m, h: len(repr(m.a.bias)) % 2,
    "a weight in a list": lambda m, h: sum(m.b.weight.flatten().tolist()) > 0,
    "a weight as an array": lambda m, h: m.b.weight.detach().numpy().std() > 0.2,
}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("method", ["zero_out", "split"])
@pytest.mark.parametrize("kind", READ_BY_PYTHON)
def test_a_tensor_whose_numbers_python_reads_keeps_its_widths(kind: str, method: str, output: Any) -> None:
    read = READ_BY_PYTHON[kind]

    def forward(m: Net, x: Tensor) -> Any:
        h = m.a(x)
        return m.b(h) * (2.0 if read(m, h) else 3.0)

    teacher = made(forward)
    with pytest.raises(fxgrow.GrowError, match=r"reads its numbers|would not compute what"):
        fxgrow.grow(teacher, {"a": 16}, example(), output=output, method=method)


@torch.library.custom_op("fxgrow_tests::times", mutates_args=("t",))
def _times(t: Tensor, n: int) -> None:
    t.mul_(n)


@_times.register_fake
def _times_on_meta(t: Tensor, n: int) -> None:
    pass


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("by_width", [False, True])
def test_an_operator_of_the_users_that_writes_to_a_constant_is_computed(by_width: bool, output: Any) -> None:
    def forward(m: Net, x: Tensor) -> Any:
        h, factor = m.a(x), torch.ones(2, 1, 1, dtype=x.dtype)
        _times(factor, h.shape[1] if by_width else 3)
        return m.b(h) * factor

    teacher = made(forward)
    student = grown(teacher, output)
    assert (student is None) == by_width
    assert student is None or same(student(example()), teacher(example()))
