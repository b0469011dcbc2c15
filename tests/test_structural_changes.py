"""What structural changes say of themselves is what the student has: checks, tables and drawings rely on it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow import Deepen, Kernel
from fxgrow.plans.growth_plan import Plan
from tests.nets.registry import IMAGE


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(torch.relu(self.norm(self.first(x))))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 8, 3), nn.Sequential(Block(), Block())
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(torch.relu(self.stem(x))).mean((2, 3)))


REQUESTS = {
    "layer": [Deepen("stem")],
    "residual": [Deepen("stem", kind="residual", norm="batch")],
    "linear": [Deepen("head", activation="none")],
    "clones": [Deepen("blocks", blocks=2)],
    "kernel": [Kernel("stem", 5)],
    "all": [
        {"stem": 12},
        Deepen("stem"),
        Deepen("blocks", blocks=1),
        Kernel("stem", (5, 3)),
        Kernel("blocks.0.first", 5),
    ],
}


def images() -> torch.Tensor:
    return torch.randn(IMAGE, dtype=torch.float64)


def _grown(case: str) -> tuple[nn.Module, nn.Module, Plan]:
    teacher = Net().double()
    student = fxgrow.grow(teacher, REQUESTS[case], images())
    plan = fxgrow.plan_of(student)
    assert plan is not None
    assert plan.changes
    return teacher, student, plan


def _paths(model: nn.Module) -> set[str]:
    return {path for path, _ in model.named_modules() if path}


@pytest.mark.parametrize("case", REQUESTS)
def test_new_paths_are_those_that_only_the_student_has(case: str) -> None:
    teacher, student, plan = _grown(case)
    new = [path for change in plan.changes for path in change.new_paths]
    inside = {path for path in _paths(student) if any(f"{path}.".startswith(f"{one}.") for one in new)}
    assert inside == _paths(student) - _paths(teacher)
    assert len(set(new)) == len(new)
    assert set(new) <= inside


@pytest.mark.parametrize("case", ["clones", "all"])
def test_clones_have_the_shapes_of_their_original(case: str) -> None:
    _, student, plan = _grown(case)
    assert any(change.original for change in plan.changes)
    for change in plan.changes:
        if change.original:
            original = {
                name: tensor.shape for name, tensor in student.get_submodule(change.original).state_dict().items()
            }
            for path in change.new_paths:
                clone = {name: tensor.shape for name, tensor in student.get_submodule(path).state_dict().items()}
                assert clone == original


@pytest.mark.parametrize("case", REQUESTS)
def test_kernels_are_the_parameters_that_change_besides_their_widths(case: str) -> None:
    teacher, student, plan = _grown(case)
    stated = {f"{path}.weight": sizes for change in plan.changes for path, sizes in change.kernels.items()}
    before, after = teacher.state_dict(), student.state_dict()
    found = {
        name: (tuple(tensor.shape[2:]), tuple(after[name].shape[2:]))
        for name, tensor in before.items()
        if tensor.shape[2:] != after[name].shape[2:]
    }
    assert stated == found
