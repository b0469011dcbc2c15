"""A model that is itself a container: its entries are cloned and followed by new ones like those of an inner one."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import fxgrow
from tests.check import randomise, relative_error

X = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Res(nn.Module):
    """A residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(x)).relu()


def net() -> nn.Sequential:
    first = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
    last = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)
    return randomise(nn.Sequential(*first, Res(), *last).double())  # type: ignore[return-value]


def assert_same(teacher: nn.Module, student: nn.Module) -> None:
    """In both modes; the names have moved."""
    for training in (False, True):
        assert relative_error(student.train(training)(X), teacher.train(training)(X)) < 1e-10


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (fxgrow.Deepen("3", blocks=2), 9),
        (fxgrow.Deepen("4", flat=True), 9),
        ([1.5, fxgrow.Deepen("3", blocks=1), fxgrow.Deepen("4", flat=True)], 10),
    ],
)
def test_entries_of_a_sequential_are_numbered_through(spec: fxgrow.Spec, names: int, tmp_path: Path) -> None:
    teacher = net()
    student = fxgrow.grow(teacher, spec, X, output="module")
    assert type(student) is nn.Sequential
    assert [name for name, _ in student.named_children()] == [str(number) for number in range(names)]
    plan = fxgrow.plan_of(student)
    save_file(teacher.state_dict(), tmp_path / "a.safetensors")
    fxgrow.grow_checkpoint(plan, tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    found = load_file(tmp_path / "b.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in student.state_dict().items())
    assert_same(teacher, student)
    wider = fxgrow.grow(student, 2.0, X, output="module")
    assert_same(teacher, wider)
