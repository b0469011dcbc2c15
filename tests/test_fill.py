"""How tensors are filled: what may be divided, several methods in one tensor, and what new entries hold."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from fxgrow import Outputs, Widen, methods
from fxgrow.base.rng import sixteen_bits
from fxgrow.rewrite import fill, index_maps
from fxgrow.rewrite.fill import IndexMap
from tests.check import assert_exact


class Weighted(nn.Module):
    """A linear layer whose weight is a function of a parameter."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.w, self.function = nn.Linear(3, 8), nn.Parameter(torch.randn(4, 8)), function

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(self.a(x)), self.function(self.w))


def _overwritten(w: Tensor) -> Tensor:
    square = w * w
    square.view(-1).add_(1.0)
    return square


NO_MULTIPLES: dict[str, Callable[[Tensor], Tensor]] = {
    "one that a view overwrites": _overwritten,
    "squared": lambda w: w * w,
    "absolute": lambda w: w.abs(),
    "rounded": lambda w: w.to(torch.bfloat16).to(torch.float64),
    "a sum with its square": lambda w: w + w * w,
}


@pytest.mark.parametrize("method", ["split", "even", "zero_out"])
@pytest.mark.parametrize("name", NO_MULTIPLES)
def test_a_weight_that_is_no_multiple_of_a_parameter_is_not_divided(name: str, method: str) -> None:
    torch.manual_seed(0)
    teacher, x = Weighted(NO_MULTIPLES[name]).double(), torch.randn(5, 3, dtype=torch.float64)
    try:
        student = fxgrow.grow(teacher, 1.5, x, method=method)
    except fxgrow.PlanError:  # nothing else can grow
        return
    assert_exact(teacher, student, x, 1e-10, changed=False)


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 8), nn.Linear(3, 6), nn.Linear(14, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.cat([torch.tanh(self.a(x)), torch.tanh(self.b(x))], -1))


@pytest.mark.parametrize("pair", [("split", "zero_out"), ("zero_out", "split"), ("even", "zero_out")])
def test_two_methods_in_one_concatenation(pair: tuple[str, str]) -> None:
    torch.manual_seed(0)
    teacher, x = Joined().double(), torch.randn(5, 3, dtype=torch.float64)
    student = fxgrow.grow(teacher, [Widen("a", 12, method=pair[0]), Widen("b", 9, method=pair[1])], x)
    assert_exact(teacher, student, x, 1e-10)
    weight = student.get_parameter("c.weight").detach()
    for (start, stop), method in zip(((8, 12), (18, 21)), pair, strict=True):
        assert bool(weight[:, start:stop].any()) is (method != "zero_out")


@pytest.mark.parametrize(("method", "value"), [("random_init", 0.0), ("random_pad", 0.1)])
def test_baselines_fill_biases(method: str, value: float) -> None:
    teacher = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    student = fxgrow.grow(teacher, {"0": 12}, torch.randn(4, 3), method=method)
    assert torch.allclose(student.get_parameter("0.bias")[8:], torch.full((4,), value))


def test_biases_of_new_random_outputs_are_drawn() -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 6))
    bias = fxgrow.grow(teacher, Outputs(9, new="random"), torch.randn(4, 3)).get_parameter("2.bias").detach()
    assert not torch.isin(bias[6:], bias[:6]).any()


def test_volumes_keep_their_memory_format() -> None:
    layers: list[nn.Module] = [nn.Conv3d(3, 8, 3), nn.ReLU(), nn.Conv3d(8, 2, 3)]
    teacher: Any = nn.Sequential(*layers).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    student = fxgrow.grow(teacher, 1.5, torch.randn(2, 3, 6, 6, 6))
    assert student.get_parameter("2.weight").is_contiguous(memory_format=torch.channels_last_3d)


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.n, self.b = nn.Linear(5, 64), nn.LayerNorm(64), nn.Linear(64, 32)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.n(self.a(x)))


def test_columns_that_are_drawn_behind_a_norm_are_as_large_as_the_others() -> None:
    torch.manual_seed(0)
    teacher, x = Normed().double(), torch.randn(4, 6, 5, dtype=torch.float64)
    weight = fxgrow.grow(teacher, Widen("a", 96, indivisible="average"), x).get_parameter("b.weight").detach().abs()
    new, old = weight[:, 64:], weight[:, :64].mean(1, keepdim=True)
    assert (new <= old * 1.0001).all()
    assert new.mean() > 0.3 * old.mean()


class JoinsNothing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.cat([torch.empty(0, dtype=x.dtype), self.a(x)], 1))


def test_an_empty_tensor_joins_nothing() -> None:
    teacher, x = JoinsNothing().double(), torch.randn(4, 3, dtype=torch.float64)
    assert_exact(teacher, fxgrow.grow(teacher, 2.0, x), x, 1e-10)


class Grouped(nn.Module):
    """Rows and columns whose entries grow at many places."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 40), nn.Linear(40, 40), nn.Linear(40, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x).view(-1, 10, 4)).flatten(1)
        h = torch.tanh(self.b(h).view(-1, 10, 4)).transpose(1, 2).reshape(len(x), -1)
        return self.c(h)


def test_entries_at_many_places_are_gathered_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    teacher, x = Grouped().double(), torch.randn(5, 3, dtype=torch.float64)
    student = fxgrow.grow(teacher, 1.5, x, method="even")
    monkeypatch.setattr(fill, "PART", 64)
    monkeypatch.setattr(index_maps, "MANY", 2)
    again = fxgrow.grow(teacher, 1.5, x, method="even")
    assert_exact(teacher, again, x, 1e-10)
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


# -- random numbers by blocks ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["split", "even", "zero_out"])
def test_a_block_of_rows_does_not_depend_on_the_others(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """The last block, made alone, has the bits that it has in the whole."""
    monkeypatch.setattr(fill, "PART", 64)
    torch.manual_seed(0)
    teacher, x = (
        nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, 2)),
        torch.ones(2, 3),
    )
    plan = fxgrow.plan(fxgrow.widths(teacher, x), 1.5, method=method)
    whole = fxgrow.apply(plan, teacher, x).get_parameter("2.weight").detach()
    blocks: list[tuple[int, int]] = []
    gather = fill._gather

    def last_alone(tensor: Tensor, target: Tensor, sources: Any, along: int, start: int, stop: int) -> Tensor:
        if target.ndim == 2 and target.shape[1] == 24:
            blocks.append((start, stop))
            if stop < 36:
                target.fill_(torch.nan)
                return target.clone()  # what is made of it goes nowhere
        return gather(tensor, target, sources, along, start, stop)

    monkeypatch.setattr(fill, "_gather", last_alone)
    alone = fxgrow.apply(plan, teacher, x).get_parameter("2.weight").detach()
    assert len(blocks) > 4
    start, stop = blocks[-1]
    assert torch.equal(alone[start:stop], whole[start:stop])


@pytest.mark.parametrize("part", ["contract", "produce", "bias"])
def test_what_a_method_returns_is_the_students_even_if_it_is_another_tensor(
    monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """A method of the user's own need not fill in place."""
    kind = type(methods.method("even"))
    filled = getattr(kind, part)

    def apart(self: methods.Method, tensor: Tensor, columns: methods.Columns, generator: torch.Generator) -> Tensor:
        result = filled(self, tensor.clone(), columns, generator)
        tensor.fill_(torch.nan)
        return result

    teacher, x = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double(), torch.randn(4, 5).double()
    monkeypatch.setattr(kind, part, apart)
    student = fxgrow.grow(teacher, 1.5, x, method="even")
    assert_exact(teacher, student, x, 1e-10)


def test_draws_of_sixteen_bits_are_uniform() -> None:
    drawn = sixteen_bits(1 << 16, torch.Generator().manual_seed(0)).double() / (1 << 15)
    assert drawn.abs().max() <= 1
    assert abs(float(drawn.mean())) < 0.01
    assert abs(float(drawn.var()) - 1 / 3) < 0.01
    assert len(sixteen_bits(7, torch.Generator())) == 7


def test_entries_are_views_where_they_are_a_few_ranges() -> None:
    halves, mixed = torch.tensor([0, 1, 2, 3, 0, 1]), torch.randperm(256, generator=torch.Generator().manual_seed(0))
    few, many = (IndexMap(index, torch.ones(len(index), dtype=torch.bool), index.device) for index in (halves, mixed))
    assert list(few.runs) == [(0, 0, 4), (4, 0, 2)]
    assert not many.runs
    source = torch.arange(256.0)
    assert few.gather(source, 0, 1, 4).data_ptr() == source[1:].data_ptr()
    assert torch.equal(few.gather(source, 0), source[halves])
    assert torch.equal(many.gather(source, 0), source[mixed])
