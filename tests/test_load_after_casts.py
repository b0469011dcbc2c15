"""A student that was cast after its growth loads as it was saved, where its code asks for the dtype, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from tests.analysed import Output

IDS = torch.randint(0, 20, (2, 6), generator=torch.Generator().manual_seed(1))
CASTS = [
    (torch.float64, torch.float32), (torch.float32, torch.bfloat16), (torch.float32, torch.float64),
    (torch.bfloat16, torch.float32), (torch.float16, torch.bfloat16),
]  # fmt: skip


class Stem(nn.Module):
    """Two layers on tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.inner, self.outer = nn.Embedding(20, 8), nn.Linear(8, 12), nn.Linear(12, 20)

    def hidden(self, ids: Tensor) -> Tensor:
        return torch.relu(self.inner(self.embedding(ids)))


class AsksForEps(Stem):
    """Adds a number of the dtype."""

    def forward(self, ids: Tensor) -> Tensor:
        y = self.hidden(ids)
        result: Tensor = self.outer(y + 16 * torch.finfo(y.dtype).eps)
        return result


class AsksTheWeight(Stem):
    """Masks by a number of its weight's dtype."""

    def forward(self, ids: Tensor) -> Tensor:
        low = torch.finfo(self.outer.weight.dtype).min
        result: Tensor = self.outer(self.hidden(ids)).masked_fill(ids[..., None] > 15, low)
        return result


class Branches(Stem):
    """Computes something else in double precision."""

    def forward(self, ids: Tensor) -> Tensor:
        y = self.hidden(ids)
        if y.dtype == torch.float64:
            y = 2 * y
        result: Tensor = self.outer(y)
        return result


class Fills(Stem):
    """Makes a constant of a number of the dtype."""

    def forward(self, ids: Tensor) -> Tensor:
        y = self.hidden(ids)
        result: Tensor = self.outer(torch.maximum(y, torch.full((1,), torch.finfo(y.dtype).tiny, dtype=y.dtype)))
        return result


MODELS: tuple[Callable[[], nn.Module], ...] = (AsksForEps, AsksTheWeight, Branches, Fills)


def assert_loads_as_saved(student: nn.Module, factory: Callable[[], nn.Module], path: Path, **how: Tensor) -> None:
    """A loaded student has the bits of the one that was saved, in both modes."""
    fxgrow.save(student, path)
    loaded = fxgrow.load(path, factory, **how).model
    assert {t.dtype for t in loaded.state_dict().values()} == {t.dtype for t in student.state_dict().values()}
    for mode in (True, False):
        assert same(result_of(loaded.train(mode)), result_of(student.train(mode)))


def result_of(model: nn.Module) -> Tensor | str:
    """What a model returns, or why it does not: a graph refuses a dtype for which its code would take another path."""
    try:
        result: Tensor = model(IDS)
    except fxgrow.GrowError as error:
        return str(error)
    return result


def same(one: Tensor | str, other: Tensor | str) -> bool:
    """Whether two results are the same."""
    return one == other if isinstance(one, str) or isinstance(other, str) else torch.equal(one, other)


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("grown", "saved"), CASTS)
def test_a_student_that_was_cast_loads(
    grown: torch.dtype, saved: torch.dtype, model: Callable[[], nn.Module], output: Output, tmp_path: Path
) -> None:
    student = fxgrow.grow(model().to(grown), 1.5, IDS, output=output).to(saved)
    assert_loads_as_saved(student, model, tmp_path / "student.safetensors")
    assert_loads_as_saved(student, model, tmp_path / "student.safetensors", example_inputs=IDS)
    assert_loads_as_saved(student, lambda: model().to(grown), tmp_path / "student.safetensors")


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("model", [model for model in MODELS if model is not Branches])
def test_a_student_that_was_cast_between_growths_loads(
    model: Callable[[], nn.Module], output: Output, tmp_path: Path
) -> None:
    first = fxgrow.grow(model().double(), {"inner": 16}, IDS, output=output)
    second = fxgrow.grow(first.float(), {"inner": 20}, IDS, output=output)
    assert_loads_as_saved(second.bfloat16(), model, tmp_path / "student.safetensors")


class Decides(AsksForEps):
    """Decides by a number, too."""

    def __init__(self, flag: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("flag", torch.tensor(flag))

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids) * 2 if self.flag > 0 else super().forward(ids)


@pytest.mark.parametrize("flag", [0.0, 1.0])
def test_a_student_that_decides_by_numbers_and_was_cast_loads(flag: float, tmp_path: Path) -> None:
    student = fxgrow.grow(Decides(flag).double(), 1.5, IDS, output="module").float()
    assert_loads_as_saved(student, Decides, tmp_path / "student.safetensors", example_inputs=IDS)


def test_a_part_in_another_precision_loads(tmp_path: Path) -> None:
    def mixed() -> nn.Sequential:
        return nn.Sequential(AsksForEps(), nn.LayerNorm(20))

    student = fxgrow.grow(mixed().double(), {"0.inner": 16}, IDS, output="module")
    student[0].bfloat16()
    fxgrow.save(student, tmp_path / "student.safetensors")
    loaded = fxgrow.load(tmp_path / "student.safetensors", mixed).model
    assert [t.dtype for t in loaded.state_dict().values()] == [t.dtype for t in student.state_dict().values()]
    assert torch.equal(loaded.get_submodule("0")(IDS), student[0](IDS))


class Other(AsksForEps):
    """Other code on the same tensors."""

    def forward(self, ids: Tensor) -> Tensor:
        return torch.tanh(super().forward(ids))


@pytest.mark.parametrize("output", ["graph", "module"])
def test_other_code_is_refused_in_every_dtype(output: Output, tmp_path: Path) -> None:
    student = fxgrow.grow(AsksForEps().double(), 1.5, IDS, output=output).float()
    fxgrow.save(student, tmp_path / "student.safetensors")
    with pytest.raises(fxgrow.PlanError, match=r"made for another forward .* as it was before any growth"):
        fxgrow.load(tmp_path / "student.safetensors", Other)
