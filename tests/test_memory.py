"""Memory that code reaches beside every operator: exact, or refused with the line."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import swap_tensors

import fxgrow
from tests.test_what_a_result_depends_on import OUTPUTS, Forward, _two, example, grown, made, same


def _assigned_data(m: nn.Module, x: Tensor) -> Any:
    c = torch.zeros(2, 1, 1, dtype=x.dtype)
    h, y, _ = _two(m, x)
    c.data = torch.full((2, 1, 1), float(h.shape[1]), dtype=x.dtype)
    return y + c


def _swapped_content(m: nn.Module, x: Tensor) -> Any:
    _, y, z = _two(m, x)
    y, z = y.detach() * 1, z.detach() * 1
    swap_tensors(y, z)
    return y


def _same_address(m: nn.Module, x: Tensor) -> Any:
    _, y, z = _two(m, x)
    return y if y.data_ptr() == z.data_ptr() else z


def _same_storage(m: nn.Module, x: Tensor) -> Any:
    _, y, z = _two(m, x)
    return y if y.untyped_storage().data_ptr() == z.untyped_storage().data_ptr() else z


def _written_storage(m: nn.Module, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    c = y.detach() * 1
    c.untyped_storage()[0] = h.shape[1]
    return c


def _filled_storage(m: nn.Module, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    c = y.detach() * 1
    c.untyped_storage().fill_(h.shape[1])
    return c


def _pickled(m: nn.Module, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    return y * pickle.loads(pickle.dumps(torch.full((1,), float(h.shape[1]), dtype=x.dtype)))


def _saved(m: nn.Module, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    file = io.BytesIO()
    torch.save(torch.full((1,), float(h.shape[1]), dtype=x.dtype), file)
    file.seek(0)
    return y * torch.load(file)


def _shallow_copy(m: nn.Module, x: Tensor) -> Any:
    h, y, z = _two(m, x)
    return copy.copy(y if h.shape[1] < 10 else z) * 2


def _dlpack(m: nn.Module, x: Tensor) -> Any:
    h = m.a(x).detach()
    torch.from_dlpack(h)[:, 0] = 0.0
    return m.b(h)


def _applied(m: nn.Module, x: Tensor) -> Any:
    m.b._apply(lambda tensor: tensor * 2)
    return m.b(m.a(x))


REFUSED = {
    _applied: "assigns to the data of a tensor",
    _assigned_data: "assigns to the data of a tensor",
    _swapped_content: "swaps two tensors",
    _same_address: "asks for the address",
    _same_storage: "as a storage",
    _written_storage: "as a storage",
    _filled_storage: "as a storage",
    _pickled: "pickles or copies a tensor",
    _saved: "pickles or copies a tensor",
    _shallow_copy: "pickles or copies a tensor",
    _dlpack: "by DLPack",
}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", REFUSED)
def test_memory_that_no_run_can_follow_is_refused(forward: Forward, output: Any) -> None:
    with pytest.raises(fxgrow.GrowError, match=f"{REFUSED[forward]}.* beside every operator"):
        fxgrow.grow(made(forward), 2.0, example(), output=output)


def _caught(m: nn.Module, x: Tensor) -> Any:
    _, y, z = _two(m, x)
    try:
        return y if y.data_ptr() == z.data_ptr() else z
    except RuntimeError:
        return y


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_refusal_is_not_caught_by_the_models_code(output: Any) -> None:
    with pytest.raises(fxgrow.GrowError, match="asks for the address"):
        fxgrow.grow(made(_caught), 2.0, example(), output=output)


def _swapped_where_wide(m: nn.Module, x: Tensor) -> Any:
    h, y, z = _two(m, x)
    y, z = y.detach() * 1, z.detach() * 1
    if h.shape[1] > 10:
        swap_tensors(y, z)
    return y, z


def _assigned_where_wide(m: nn.Module, x: Tensor) -> Any:
    h, y, z = _two(m, x)
    y = y.detach() * 1
    if h.shape[1] > 10:
        y.data = z.detach()
    return y, z


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", [_swapped_where_wide, _assigned_where_wide])
def test_memory_that_only_a_student_would_reach_is_the_teachers(forward: Forward, output: str) -> None:
    teacher = made(forward)
    student = grown(teacher, output)
    assert student is None or same(student(example()), teacher(example()))


def _array_written_later(m: nn.Module, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    array = np.zeros((2, 1, 1))
    shared = torch.from_numpy(array)
    y = y + shared
    array[0] = h.shape[1]
    return y + shared


def _array_written_later_as_a_tensor(m: nn.Module, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    array = np.zeros((2, 1, 1))
    shared = torch.as_tensor(array)
    y = y + shared
    array += h.shape[1]
    return y + shared


def _buffer_written_later(m: nn.Module, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    buffer = bytearray(8)
    shared = torch.frombuffer(buffer, dtype=torch.uint8)
    y = y + shared[:2].view(2, 1, 1)
    buffer[0] = h.shape[1]
    return y + shared[:2].view(2, 1, 1)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", [_array_written_later, _array_written_later_as_a_tensor, _buffer_written_later])
def test_a_constant_that_is_written_to_by_numpy_or_a_buffer_is_refused(forward: Forward, output: Any) -> None:
    with pytest.raises(fxgrow.GrowError, match="shares the memory of a tensor with numpy or a buffer"):
        fxgrow.grow(made(forward), 2.0, example(), output=output)


def _array_written_where_wide(m: nn.Module, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    array = np.zeros((2, 1, 1))
    shared = torch.from_numpy(array)
    y = y + shared
    if h.shape[1] > 10:
        array[0] = 5.0
    return y + shared


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_constant_that_only_a_student_would_write_to_is_the_teachers(output: str) -> None:
    teacher = made(_array_written_where_wide)
    student = grown(teacher, output)
    assert student is None or same(student(example()), teacher(example()))


def _alias_written(m: nn.Module, x: Tensor) -> Any:
    y, c = m.b(m.a(x)), torch.zeros(2, 1, 1, dtype=x.dtype)
    y = y + c
    c.detach().add_(3)
    m.b.to(x.dtype).to(x.device)
    return y + c


def _alias_written_by_width(m: nn.Module, x: Tensor) -> Any:
    h, c = m.a(x), torch.zeros(2, 1, 1, dtype=x.dtype)
    y = m.b(h) + c
    c.detach().add_(h.shape[1])
    return y + c


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", [_alias_written, _alias_written_by_width])
def test_constants_are_written_to_by_their_aliases(forward: Forward, output: str) -> None:
    teacher = made(forward)
    student = grown(teacher, output)
    assert student is None or same(student(example()), teacher(example()))
    assert student is not None or forward is _alias_written_by_width


def _from_numpy(m: nn.Module, x: Tensor) -> Any:
    mean = torch.from_numpy(np.array([0.5, 0.4, 0.3])).view(3, 1, 1)
    return m.b(m.a(x - mean) * (x.untyped_storage().nbytes() > 0))


@pytest.mark.parametrize("output", OUTPUTS)
def test_arrays_that_are_only_read_and_sizes_of_storages_are_no_reason_to_stay(output: str) -> None:
    teacher = made(_from_numpy)
    student = grown(teacher, output)
    assert student is not None
    assert student.get_parameter("a.weight").shape[0] == 16
    assert same(student(example()), teacher(example()))


def _by_mark(m: nn.Module, x: Tensor) -> Any:
    return m.b(m.a(x)) * sum(getattr(p, "gain", 0.0) for p in m.parameters())


def _by_tensor_mark(m: nn.Module, x: Tensor) -> Any:
    mask = getattr(m.a.weight, "mask", None)
    return m.b(m.a(x) if mask is None else m.a(x) * mask)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", [_by_mark, _by_tensor_mark])
def test_attributes_of_parameters_are_read_as_the_teacher_has_them(forward: Forward, output: str) -> None:
    teacher = made(forward)
    teacher.a.weight.gain, teacher.b.weight.gain = 2.0, 3.0
    teacher.a.weight.mask = torch.arange(8.0, dtype=torch.float64).view(8, 1, 1)
    student = grown(teacher, output)
    assert student is None or same(student(example()), teacher(example()))
    assert forward is _by_tensor_mark or student is not None


def _marking(m: nn.Module, x: Tensor) -> Any:
    if not hasattr(m.a.weight, "number"):
        m.a.weight.number = m.a.weight.shape[0]
    return m.b(m.a(x)) * m.a.weight.number


@pytest.mark.parametrize("output", OUTPUTS)
def test_attributes_that_forward_puts_on_parameters_are_refused(output: Any) -> None:
    teacher = made(_marking)
    with pytest.raises(fxgrow.GrowError, match=r"changes the attribute 'number' of the tensor 'a\.weight'"):
        fxgrow.grow(teacher, 2.0, example(), output=output)
    assert not vars(teacher.a.weight)


def _moved_then_written(m: nn.Module, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    c = torch.zeros(1, 1, 1, dtype=x.dtype)
    d = c.to(x.device)
    d.add_(h.shape[1])
    return y + c


def _written_then_moved(m: nn.Module, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    c = torch.zeros(1, 1, 1, dtype=x.dtype)
    d = c.cpu().to(x.device)
    c += h.shape[1]
    return y + d


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", [_moved_then_written, _written_then_moved])
def test_a_constant_is_not_read_after_a_write_to_what_to_made_of_it(forward: Forward, output: Any) -> None:
    with pytest.raises(fxgrow.GrowError, match=r"reads a constant after a write to what `\.to` made of it"):
        fxgrow.grow(made(forward), 1.5, example(), output=output)


def _moved_alone(m: nn.Module, x: Tensor) -> Any:
    _, y, _ = _two(m, x)
    c = torch.zeros(2, 1, 1, dtype=x.dtype).to(x.device)
    c[1:] = 2
    d = torch.ones(1, 1, 1).to(x.dtype)  # a copy on every device
    d += 1
    return y + c[:1] + d


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_constant_that_is_moved_and_written_to_under_one_name_grows(output: Any) -> None:
    teacher = made(_moved_alone)
    student = grown(teacher, output)
    assert student is not None
    assert same(student(example()), teacher(example()))
