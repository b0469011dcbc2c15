"""The teacher is never modified, whether growth succeeds or fails, nor is the global state."""

import contextlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from tests.check import randomise
from tests.left import grown_or_left
from tests.nets import NETS
from tests.untouched import assert_untouched

SOME = (
    "res_net",
    "tied_convolutions",
    "shared_module",
    "frozen_parameters",
    "position_tables",
    "stochastic_depth",
    "auxiliary_head",
    "shuffle_chain",
    "layernorm_on_tokens",
    "weight_decides_scale",
    "instance_test",
    "view_written_in_place",
    "pinned_gather",
)


def _prepared(name: str) -> tuple[nn.Module, object]:
    """A teacher in use: with hooks, gradients, and a mixture of modes."""
    net = NETS[name]
    teacher, inputs = randomise(net.make()), net.inputs()
    for i, module in enumerate(teacher.modules()):
        module.training = bool(i % 2)
    for i, p in enumerate(teacher.parameters()):
        if i % 2 and p.requires_grad:
            p.grad = torch.randn_like(p)
    first = next(teacher.children())
    first.register_forward_hook(lambda module, args, output: None)
    first.register_forward_pre_hook(lambda module, args: None)
    first.register_full_backward_hook(lambda module, grad_in, grad_out: None)
    return teacher, inputs


@pytest.mark.parametrize("factor", [1.5, 2.0])
@pytest.mark.parametrize("name", SOME)
def test_grow_leaves_the_teacher(name: str, factor: float) -> None:
    teacher, inputs = _prepared(name)
    with assert_untouched(teacher):
        grown_or_left(teacher, factor, inputs)  # what a backward hook is given stays


STAGES: dict[str, Callable[[nn.Module, object], object]] = {
    "trace": lambda m, x: fxgrow.trace(m, x),
    "widths": lambda m, x: str(fxgrow.widths(m, x)),
    "plan": lambda m, x: fxgrow.plan(fxgrow.widths(m, x), 2.0),
    "apply": lambda m, x: fxgrow.apply(fxgrow.plan(fxgrow.widths(m, x), 2.0), m),
    "verify": lambda m, x: fxgrow.verify(m, fxgrow.grow(m, 2.0, x), x),
}


@pytest.mark.parametrize("stage", STAGES)
def test_stage_leaves_the_teacher(stage: str) -> None:
    teacher, inputs = _prepared("res_net")
    with assert_untouched(teacher):
        STAGES[stage](teacher, inputs)


def test_inputs_are_left() -> None:
    teacher = NETS["function_relu_inplace"].make()
    x = torch.randn(2, 3, 6, 8)
    before = x.clone()
    fxgrow.grow(teacher, 2.0, x)
    assert torch.equal(x, before)
    assert not x.requires_grad


def test_student_shares_no_memory() -> None:
    """Training the student must not train the teacher."""
    teacher, inputs = _prepared("res_net")
    student = fxgrow.grow(teacher, {"layer2.*": 2.0}, inputs)
    old = {t.untyped_storage().data_ptr() for t in (*teacher.parameters(), *teacher.buffers())}
    new = {t.untyped_storage().data_ptr() for t in (*student.parameters(), *student.buffers())}
    assert not old & new


class Raises(nn.Module):
    """Two layers, then an exception."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn, self.b = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1)
        self.cache: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.cache = self.bn(self.a(x))
        raise RuntimeError("no forward today")


class Branches(Raises):
    """Control flow on values; the features are cached on the module before it."""

    def forward(self, x: Tensor) -> Tensor:
        self.cache = self.bn(self.a(x))
        if self.cache.sum() > 0:
            return self.b(self.cache)
        return self.b(-self.cache)


FAILING: dict[str, tuple[Callable[[], nn.Module], object, object]] = {
    "forward raises": (Raises, 2.0, torch.randn(2, 3, 6, 8)),
    "wrong input": (NETS["res_net"].make, 2.0, torch.randn(2, 4, 6, 8)),
    "input that is none": (NETS["res_net"].make, 2.0, "an image"),
    "unknown name": (NETS["res_net"].make, {"layer9.*": 2.0}, torch.randn(2, 3, 6, 8)),
    "contradiction": (
        NETS["res_net"].make,
        {"layer2.0.conv2": 12, "layer2.1.conv2": 16},
        torch.randn(2, 3, 6, 8),
    ),
    "smaller": (NETS["res_net"].make, {"layer2.*": 2}, torch.randn(2, 3, 6, 8)),
    "nonsense factor": (NETS["res_net"].make, -1.0, torch.randn(2, 3, 6, 8)),
    "pinned by name": (NETS["res_net"].make, {"fc": 8}, torch.randn(2, 3, 6, 8)),
}


@pytest.mark.parametrize("name", FAILING)
def test_failure_leaves_the_teacher(name: str) -> None:
    make, spec, inputs = FAILING[name]
    teacher = randomise(make())
    with assert_untouched(teacher), pytest.raises(fxgrow.GrowError):
        fxgrow.grow(teacher, spec, inputs)


def test_untraceable_leaves_the_teacher() -> None:
    """Grown or refused, but no Proxy stays on the module."""
    teacher, x = randomise(Branches()), torch.randn(2, 3, 6, 8)
    with assert_untouched(teacher), contextlib.suppress(fxgrow.GrowError):
        fxgrow.grow(teacher, 2.0, x)
