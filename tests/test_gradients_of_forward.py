"""What `forward` does to gradients beside every operator: it is the student's too, or refused by name."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

import fxgrow
from tests.test_what_a_result_depends_on import OUTPUTS, Forward, example, grown, made, same


def _gradient(model: nn.Module) -> Tensor:
    x = example().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).sin().sum(), x)
    return gradient


# -- which calls record gradients ------------------------------------------------------------------------


def _no_grad_where_wide(m: nn.Module, x: Tensor) -> Tensor:
    h = m.a(x)
    with torch.set_grad_enabled(m.b.weight.numel() < 20):
        y = m.b(h)
    return y + m.b(h) * 2


def _decorated_where_wide(m: nn.Module, x: Tensor) -> Tensor:
    h = m.a(x)
    return (torch.no_grad()(m.b) if h.shape[1] > 8 else m.b)(h) + m.b(h)


def _inference_where_wide(m: nn.Module, x: Tensor) -> Tensor:
    h = m.a(x)
    with torch.inference_mode(m.a.out_channels > 8):
        y = m.b(h)
    return y.clone() + m.b(h)


def _switched_where_wide(m: nn.Module, x: Tensor) -> Tensor:
    h = m.a(x)
    torch.set_grad_enabled(m.a.out_channels == 8)
    y = m.b(h)
    torch.set_grad_enabled(True)
    return y + m.b(h)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(
    "forward", [_no_grad_where_wide, _decorated_where_wide, _inference_where_wide, _switched_where_wide]
)
def test_a_width_that_decides_about_gradients_is_the_teachers(forward: Forward, output: Any) -> None:
    teacher = made(forward)
    student = grown(teacher, output)
    assert student is None or same(_gradient(student), _gradient(teacher))
    if output == "module":
        with pytest.raises(fxgrow.GrowError, match="runs without gradients where the teacher runs it with them"):
            fxgrow.grow(teacher, 2.0, example(), output=output)


def _partly_without(m: nn.Module, x: Tensor) -> Tensor:
    h = m.a(x)
    with torch.no_grad():
        t = m.b(h)
        with torch.enable_grad():
            u = m.b(h * 2)
    return u - t + m.b(h)


@pytest.mark.parametrize("output", OUTPUTS)
def test_code_without_gradients_grows_where_no_size_decides_about_it(output: Any) -> None:
    teacher = made(_partly_without)
    student = fxgrow.grow(teacher, {"a": 16}, example(), output=output)
    assert same(student(example()), teacher(example()))
    assert same(_gradient(student), _gradient(teacher))


# -- hooks -----------------------------------------------------------------------------------------------


def _hooks_a_node(m: nn.Module, x: Tensor) -> Tensor:
    h = m.a(x)
    y = m.b(h)
    if y.grad_fn is not None:
        y.grad_fn.register_prehook(lambda gradients: tuple(g * h.shape[1] for g in gradients))
    return y.sin()


def _hooks_a_node_before(m: nn.Module, x: Tensor) -> Tensor:
    h = m.a(x)
    y = m.b(h)
    if y.grad_fn is not None:
        y.grad_fn.next_functions[0][0].register_hook(lambda given, made: tuple(g and g * h.shape[1] for g in given))
    return y.sin()


def _tries_to_hook(m: nn.Module, x: Tensor) -> Tensor:
    h = m.a(x)
    with contextlib.suppress(RuntimeError):
        h.register_hook(lambda g: g / g.shape[1])
    return m.b(h)


def _hooks_a_parameter(m: nn.Module, x: Tensor) -> Tensor:
    m.a.weight.register_hook(lambda g: g / g.norm())
    return m.b(m.a(x))


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", [_hooks_a_node, _hooks_a_node_before, _tries_to_hook, _hooks_a_parameter])
def test_each_way_to_hook_a_gradient_is_named(forward: Forward, output: Any) -> None:
    with pytest.raises(fxgrow.GrowError, match="registers a hook on a gradient"):
        fxgrow.grow(made(forward), 2.0, example(), output=output)


def _rounds_what_is_saved(m: nn.Module, x: Tensor) -> Tensor:
    with saved_tensors_hooks(lambda t: t / t.abs().max(), lambda t: t):
        return m.b(m.a(x).sigmoid())


@pytest.mark.parametrize("output", OUTPUTS)
def test_hooks_on_what_autograd_saves_are_named(output: Any) -> None:
    with pytest.raises(fxgrow.GrowError, match="changes what autograd saves for the backward"):
        fxgrow.grow(made(_rounds_what_is_saved), 2.0, example(), output=output)


def _saves_on_the_cpu(m: nn.Module, x: Tensor) -> Tensor:
    with save_on_cpu():
        return m.b(m.a(x).sigmoid())


def _checkpoints(m: nn.Module, x: Tensor) -> Tensor:
    return checkpoint(lambda h: m.b(m.a(h).sigmoid()), x, use_reentrant=False)  # type: ignore[no-any-return]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", [_saves_on_the_cpu, _checkpoints])
def test_what_torch_saves_elsewhere_grows(forward: Forward, output: Any) -> None:
    teacher = made(forward)
    student = fxgrow.grow(teacher, {"a": 16}, example(), output=output)
    assert same(_gradient(student), _gradient(teacher))


# -- which parameters are trained ------------------------------------------------------------------------


def _freezes_where_wide(m: nn.Module, x: Tensor) -> Tensor:
    m.b.requires_grad_(m.b.in_channels == 8)
    return m.b(m.a(x))


def _freezes(m: nn.Module, x: Tensor) -> Tensor:
    m.a.requires_grad_(False)
    return m.b(m.a(x))


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", [_freezes_where_wide, _freezes])
def test_a_student_freezes_what_its_teacher_freezes(forward: Forward, output: Any) -> None:
    teacher = made(forward)
    student = grown(teacher, output)
    assert (student is None) == (forward is _freezes_where_wide and output == "module")
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    if student is not None:
        assert all(parameter.requires_grad for parameter in student.parameters())
        student(example()), teacher(example())
        assert [p.requires_grad for p in student.parameters()] == [p.requires_grad for p in teacher.parameters()]


class InInferenceMode(nn.Module):
    """A forward that torch calls in inference mode, where it takes no operator apart before a tape sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.Linear(8, 4)

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).relu().mean(2))  # type: ignore[no-any-return]


@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_forward_in_inference_mode_grows(output: Any) -> None:
    teacher, x = InInferenceMode().double(), torch.randn(4, 3, 9, dtype=torch.float64)
    student = fxgrow.grow(teacher, {"conv": 13}, x, output=output)
    assert student.get_parameter("head.weight").shape == (4, 13)
    for mode in (False, True):
        ours, theirs = student.train(mode)(x), teacher.train(mode)(x)
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
        assert ours.is_inference() == theirs.is_inference()
