"""Code that refuses the sizes of a student keeps those widths that it looks at from growing, and no others."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from fxgrow.validate.narrowing import guilty
from tests.check import randomise


class Flat(nn.Module):
    """Layers whose calls all stand in one forward: `up` has nothing to do with the others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(6, 10)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
        self.mix, self.head = nn.Linear(10, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.tanh(self.first(x)), torch.tanh(self.second(x))
        self.look(a, b)
        return self.head(a + self.down(torch.relu(self.up(a))) + self.mix(b))

    def look(self, a: Tensor, b: Tensor) -> None:
        """What the code says of two activations."""


class Raising(Flat):
    """Raises an error of its own."""

    def look(self, a: Tensor, b: Tensor) -> None:
        if a.shape[-1] != 8:
            raise ValueError(f"{a.shape[-1]} channels")


class Asserting(Flat):
    """Two widths are looked at, each by itself."""

    def look(self, a: Tensor, b: Tensor) -> None:
        assert (a.shape[-1], b.shape[-1]) == (8, 10)


class Picking(Flat):
    """Raises a KeyError of Python."""

    def look(self, a: Tensor, b: Tensor) -> None:
        {8: "small"}[a.shape[-1]]


class Together(Flat):
    """Refuses two widths only where both have grown."""

    def look(self, a: Tensor, b: Tensor) -> None:
        if a.shape[-1] > 8 and b.shape[-1] > 10:
            raise ValueError


class Attending(nn.Module):
    """An attention whose heads are joined to the number of channels, where the size of a head is a plain number."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.qkv, self.out = nn.Linear(6, 8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.up, self.down, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 3)
        self.heads, self.size = 2, 4

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, t, c = x.shape
        q, k, v = self.qkv(x).reshape(b, t, 3, self.heads, self.size).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, c))
        return self.head(x + self.down(torch.relu(self.up(x))))


KEPT = {Raising: {"first"}, Asserting: {"first", "second"}, Picking: {"first"}, Attending: set()}


@pytest.mark.parametrize("kind", KEPT, ids=lambda kind: kind.__name__)
def test_widths_that_the_code_does_not_look_at_grow(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6) if issubclass(kind, Flat) else torch.randn(2, 5, 6)
    teacher = randomise(kind()).eval()
    student = fxgrow.grow(teacher, 2.0, x, output="module")
    plan = fxgrow.plan_of(student)
    assert plan is not None
    grown = {width.name for width in plan.grown_widths}
    assert "up" in grown
    assert not grown & KEPT[kind]
    assert (
        grown > {"first", "second"} - KEPT[kind] if issubclass(kind, Flat) else grown > {"stem", "heads of the model"}
    )
    torch.testing.assert_close(student(x), teacher(x), rtol=1e-4, atol=1e-5)
    for name in KEPT[kind]:
        with pytest.raises(fxgrow.PlanError, match="the model's code states a size"):
            fxgrow.grow(teacher, {name: 2.0}, x, output="module")


class Block(nn.Module):
    """States the size of the stream in numbers that no call shows."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(2, 5, *[2 * size // 2 for size in (2, 4)]).flatten(2)
        return x + self.down(torch.relu(self.up(x)))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_what_is_refused_at_several_places_takes_nothing_else_along(number: int) -> None:
    """One repair mends all of these places: the others are not to pin what has nothing to do with them."""
    torch.manual_seed(0)
    teacher = randomise(nn.Sequential(nn.Linear(6, 8), *(Block() for _ in range(number)), nn.Linear(8, 3))).eval()
    x = torch.randn(2, 5, 6)
    student = fxgrow.grow(teacher, 2.0, x, output="module")
    plan = fxgrow.plan_of(student)
    assert plan is not None
    assert {width.name for width in plan.grown_widths} == {f"{block + 1}.up" for block in range(number)}
    torch.testing.assert_close(student(x), teacher(x), rtol=1e-4, atol=1e-5)


def test_a_pin_that_mends_a_later_place_of_the_round_is_the_only_one() -> None:
    """Two blocks of PVT v2 refuse one width: where that one is pinned, the second place says nothing of the others."""
    if importlib.util.find_spec("torchvision") is not None:
        import_torchvision()  # which transformers imports where it is there
    transformers = pytest.importorskip("transformers")
    config = transformers.PvtV2Config(
        image_size={"height": 32, "width": 32}, hidden_sizes=[32, 64, 160, 256], depths=[2, 2, 1, 1]
    )
    teacher = transformers.PvtV2ForImageClassification(config).eval()
    plan = fxgrow.plan(fxgrow.widths(teacher, torch.randn(2, 3, 32, 32), output="module"), 1.5)
    assert len(plan.grown_widths) == 14


def test_widths_that_are_refused_together_stay_or_one_of_them_does() -> None:
    torch.manual_seed(0)
    teacher, x = randomise(Together()).eval(), torch.randn(2, 6)
    student = fxgrow.grow(teacher, 2.0, x, output="module")
    plan = fxgrow.plan_of(student)
    assert plan is not None
    assert not {"first", "second"} <= {width.name for width in plan.grown_widths}
    torch.testing.assert_close(student(x), teacher(x), rtol=1e-4, atol=1e-5)
    for name in ("first", "second"):
        alone = fxgrow.plan_of(fxgrow.grow(teacher, {name: 2.0}, x, output="module"))
        assert alone is not None
        assert name in {width.name for width in alone.grown_widths}


@pytest.mark.parametrize("wrong", ["c", "a f", "a b c d e f g", "bf", "bf d", "abc", "abcdefg"])
def test_those_that_fail_are_found_by_halves(wrong: str) -> None:
    """Those that fail by themselves; and where there are none, some of which none can be left out."""
    kinds = [frozenset(together) for together in wrong.split()]
    units, checks = [frozenset(letter) for letter in "abcdefg"], []

    def fails(some: Sequence[frozenset[str]]) -> bool:
        checks.append(some)
        return any(together <= frozenset().union(*some) for together in kinds)

    found = frozenset().union(*guilty(units, fails))
    alone = frozenset().union(*[together for together in kinds if len(together) == 1])
    assert found == (alone or kinds[0])
    assert len(checks) <= 5 * len(units)
