"""A hook or a wrapper on a block that a graph does not call has no effect, and the first forward says so."""

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

import fxgrow


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.relu(self.norm(self.conv(x)))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(Block(), Block()), nn.Flatten(), nn.Linear(8 * 36, 4))


X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def does_nothing(*_: Any) -> None:
    """A hook."""


def wrap(student: nn.Module) -> None:
    student.get_submodule("1")[0] = checkpoint_wrapper(student.get_submodule("1.0"))  # type: ignore[operator, index]


WITHOUT_EFFECT: dict[str, Callable[[nn.Module], Any]] = {
    "a forward hook": lambda s: s.get_submodule("1.0").register_forward_hook(does_nothing),
    "a forward pre-hook": lambda s: s.get_submodule("1.0").register_forward_pre_hook(does_nothing),
    "a hook of the backward pass": lambda s: s.get_submodule("1.0").register_full_backward_hook(does_nothing),
    "a checkpoint wrapper": wrap,
}


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_what_has_no_effect_warns_once(name: str) -> None:
    student = fxgrow.grow(net(), 1.5, X)
    WITHOUT_EFFECT[name](student)
    with pytest.warns(UserWarning, match=r"^1\.0 got a hook or a wrapper, and the graph of Sequential") as found:
        student(X)
    assert len(found) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        student(X)


@pytest.mark.parametrize("output", ["graph", "module"])
def test_hooks_that_run_do_not_warn(output: Any) -> None:
    student = fxgrow.grow(net(), 1.5, X, output=output)
    called = []
    layers = [student, student.get_submodule("1.0.conv"), student.get_submodule("3")]
    if output == "module":
        layers.append(student.get_submodule("1.0"))
    for layer in layers:
        layer.register_forward_hook(lambda module, *_: called.append(module))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        student(X)
        student.get_submodule("1.1").register_forward_hook(does_nothing)  # after the first forward
        student(X)
    assert {id(module) for module in called} == {id(layer) for layer in layers}


def test_blocks_that_stay_calls_run_the_hooks_inside() -> None:
    student = fxgrow.grow(net(), 1.5, X, leaf_modules=[Block])
    student.get_submodule("1.0").register_forward_hook(does_nothing)
    called = []
    student.get_submodule("1.0.conv").register_forward_hook(lambda *_: called.append(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        student(X)
    assert called == [1]


def test_hooks_of_the_teacher_do_not_warn() -> None:
    """What they do is in the graph, or they are refused (docs/soundness.md)."""
    teacher = net()
    teacher[1][0].register_forward_hook(does_nothing)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        student = fxgrow.grow(teacher, 1.5, X).eval()
        assert torch.allclose(student(X), teacher.eval()(X), atol=1e-5)


def test_copies_look_for_themselves() -> None:
    student = fxgrow.grow(net(), 1.5, X)
    student(X)
    for twin in (copy.deepcopy(student), pickle.loads(pickle.dumps(student))):
        twin.get_submodule("1.0").register_forward_hook(does_nothing)
        with pytest.warns(UserWarning, match="has no effect"):
            result = twin(X)
        assert torch.allclose(result, student(X))


def test_a_compiler_sees_nothing_of_it() -> None:
    student = fxgrow.grow(net(), 1.5, X)
    compiled = torch.compile(student, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(X), student(X))
    assert torch.allclose(compiled(X), student(X))
