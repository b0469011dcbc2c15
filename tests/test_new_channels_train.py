"""New channels get a gradient: zeros go where they can leave zero, else there are replicas, or the plan says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

import fxgrow
from tests.nets.registry import Call

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
Y = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))


class Masked(nn.Module):
    """A linear layer times a mask, in either order."""

    def __init__(self, mask_first: bool) -> None:
        super().__init__()
        self.weight, self.mask_first = nn.Parameter(torch.randn(3, 8) / 3), mask_first
        self.register_buffer("mask", (torch.arange(24).view(3, 8) % 3 > 0).float())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.mask * self.weight if self.mask_first else self.weight * self.mask)


class Projects(nn.Module):
    """A matrix that does not train."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.randn(8, 3) / 3)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix


def _net(last: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), last if last is not None else nn.Linear(8, 3))


def _pruned() -> nn.Module:
    return prune.l1_unstructured(nn.Linear(8, 3), "weight", 0.4)


def _by(function: Callable[[Tensor], Tensor]) -> nn.Module:
    layer = nn.Linear(8, 3)
    parametrize.register_parametrization(layer, "weight", Call(function))
    return layer


def _moved(student: nn.Module) -> Tensor:
    """How far each new row of the first layer moves in training."""
    rows = student.get_parameter("0.weight")
    before = rows.detach().clone()
    optimizer = torch.optim.SGD([p for p in student.parameters() if p.requires_grad], 0.1)
    for _ in range(50):
        optimizer.zero_grad()
        F.mse_loss(student(X), Y).backward()
        optimizer.step()
    return (rows.detach() - before)[8:].abs().amax(1)


LAST: dict[str, Callable[[], nn.Module]] = {
    "trained": lambda: nn.Linear(8, 3),
    "frozen": lambda: nn.Linear(8, 3).requires_grad_(requires_grad=False),
    "a buffer": Projects,
    "pruned": _pruned,
    "a mask in front": lambda: Masked(mask_first=True),
    "a mask behind": lambda: Masked(mask_first=False),
    "a slope at zero": lambda: _by(torch.tanh),
}


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("name", LAST)
def test_new_channels_train(name: str, output: Any) -> None:
    torch.manual_seed(0)
    teacher = _net(LAST[name]())
    student = fxgrow.grow(teacher, {"0": 12}, X, output=output)
    torch.testing.assert_close(student(X), teacher(X))
    assert (_moved(student) > 1e-4).all()


@pytest.mark.parametrize("kind", ["pruned", "a mask in front", "a mask behind"])
def test_masks_stay_masks(kind: str) -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), LAST[kind](), nn.Tanh(), nn.Linear(3, 2))
    student = fxgrow.grow(teacher, 1.5, X)
    (mask,) = (buffer for name, buffer in student.named_buffers() if "mask" in name)
    assert mask.shape == (5, 12)
    assert set(mask.unique().tolist()) == {0.0, 1.0}


def _half_frozen(model: nn.Sequential) -> list[str]:
    model[2].requires_grad_(requires_grad=False)
    return [width.method for width in fxgrow.plan(fxgrow.widths(model, X), {"0": 12}).grown_widths]


def test_what_is_frozen_throughout_or_asked_for_is_filled_as_ever() -> None:
    assert _half_frozen(_net()) == ["split"]
    frozen = _net().requires_grad_(requires_grad=False)
    assert _half_frozen(frozen) == ["zero_out"]
    model = _net()
    model[2].requires_grad_(requires_grad=False)
    plan = fxgrow.plan(fxgrow.widths(model, X), {"0": 12}, method="zero_out")
    assert [width.method for width in plan.grown_widths] == ["zero_out"]


FLAT: dict[str, Callable[[Tensor], Tensor]] = {
    "a square": lambda w: w * w,
    "square": torch.square,
    "a power": lambda w: w**3,
    "abs": torch.abs,
    "relu": torch.relu,
    "softshrink": F.softshrink,
    "a function of one": lambda w: (w * w).tanh(),
}


@pytest.mark.parametrize("name", FLAT)
def test_a_weight_whose_function_is_flat_at_zero_is_named(name: str) -> None:
    torch.manual_seed(0)
    teacher = _net(_by(FLAT[name]))
    student = fxgrow.grow(teacher, {"0": 12}, X)
    torch.testing.assert_close(student(X), teacher(X))
    notes = fxgrow.plan_of(student).notes
    said = "new entries of 2.parametrizations.weight.original are zero, where its function has no slope"
    assert any(note.startswith(said) for note in notes)
    assert not _moved(student).any()


@pytest.mark.parametrize("function", [torch.tanh, torch.sin, lambda w: w * 2, F.silu, lambda w: w**1])
def test_other_functions_of_weights_are_not(function: Callable[[Tensor], Tensor]) -> None:
    student = fxgrow.grow(_net(_by(function)), {"0": 12}, X)
    assert not any("slope" in note for note in fxgrow.plan_of(student).notes)
    assert _moved(student).all()
