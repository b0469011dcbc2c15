"""Weights that the code picks out of a larger parameter, or mixes: experts, banks of adapters, dynamic weights.

The dimension that is picked from stays. The others are those of a weight, and grow as such.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from tests.check import assert_exact, randomise

X = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
Product = Callable[[Tensor, Tensor], Tensor]


class Bank(nn.Module):
    """Products with weights (3, new, old) of one parameter, in some way."""

    def __init__(self, old: int, new: int, product: Product, *, transposed: bool = False) -> None:
        super().__init__()
        shape = (3, old, new) if transposed else (3, new, old)
        self.weight, self.product = nn.Parameter(torch.randn(shape) * 0.3), product

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x, self.weight)


class Net(nn.Module):
    def __init__(self, product: Product, *, transposed: bool = False) -> None:
        super().__init__()
        self.a, self.d = nn.Linear(4, 8), nn.Linear(6, 3)
        self.up = Bank(8, 12, product, transposed=transposed)
        self.down = Bank(12, 6, product, transposed=transposed)

    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.down(self.up(self.a(x).relu()).relu()))


def _loop(x: Tensor, weight: Tensor) -> Tensor:
    parts = x.split([1, 2, len(x) - 3])
    return torch.cat([F.linear(part, weight[i]) for i, part in enumerate(parts)])


def _unbound(x: Tensor, weight: Tensor) -> Tensor:
    first, second, third = weight
    return x @ first.t() + (x @ second.t()).sigmoid() * F.linear(x, third)


def _one(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(x, weight[-1])


def _masked(x: Tensor, weight: Tensor) -> Tensor:
    """Each expert runs on those samples that fall to it, as in many mixtures of experts."""
    choice = torch.arange(len(x)) % 3
    y = x.new_zeros(len(x), weight.shape[1])
    for i in range(3):
        at = (choice == i).nonzero().squeeze(1)
        y = y.index_add(0, at, F.linear(x[at], weight[i]))
    return y


def _gathered(x: Tensor, weight: Tensor) -> Tensor:
    """A weight for each sample, by advanced indexing."""
    own = weight[torch.arange(len(x)) % 3]
    return torch.bmm(own, x.unsqueeze(2)).squeeze(2)


def _selected(x: Tensor, weight: Tensor) -> Tensor:
    own = weight.index_select(0, torch.arange(len(x)) % 3)
    return torch.einsum("noi,ni->no", own, x)


def _gates(x: Tensor) -> Tensor:
    """Weights of a mixture for each sample: (samples, 3)."""
    return torch.linspace(-1.0, 1.0, 3 * len(x), dtype=x.dtype).view(len(x), 3).softmax(1)


def _mixed(x: Tensor, weight: Tensor) -> Tensor:
    """A mixture of the weights for all samples, as dynamic convolutions have one for each image."""
    return F.linear(x, (_gates(x).mean(0)[:, None, None] * weight).sum(0))


def _mixed_for_each(x: Tensor, weight: Tensor) -> Tensor:
    own = (_gates(x)[:, :, None, None] * weight).sum(1)
    return torch.bmm(own, x.unsqueeze(2)).squeeze(2)


def _transposed(x: Tensor, weight: Tensor) -> Tensor:
    return sum((x @ weight[i]) * (i + 1.0) for i in range(3))


WAYS: dict[str, Product] = {
    "a loop": _loop,
    "unbound": _unbound,
    "one": _one,
    "masked": _masked,
    "gathered": _gathered,
    "selected": _selected,
    "mixed": _mixed,
    "mixed for each": _mixed_for_each,
}


@pytest.mark.parametrize("method", ["auto", "split", "zero_out", "even"])
@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("product", WAYS)
def test_weights_that_are_picked_from_a_bank_grow(product: str, output: str, method: str) -> None:
    teacher = randomise(Net(WAYS[product]).double())
    student = fxgrow.grow(teacher, 2.0, X, output=output, method=method)
    assert student.get_parameter("up.weight").shape == (3, 24, 16)
    assert student.get_parameter("down.weight").shape == (3, 12, 24)
    assert_exact(teacher, student, X, 1e-10)


@pytest.mark.parametrize("output", ["graph", "module"])
def test_weights_that_are_stored_transposed_grow(output: str) -> None:
    teacher = randomise(Net(_transposed, transposed=True).double())
    student = fxgrow.grow(teacher, 1.5, X, output=output)
    assert student.get_parameter("up.weight").shape == (3, 12, 18)
    assert_exact(teacher, student, X, 1e-10)


class BothWays(nn.Module):
    """One weight of the bank sums over what another one makes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.bank, self.d = nn.Linear(4, 8), nn.Parameter(torch.randn(2, 8, 8) * 0.3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        return self.d(F.linear(h, self.bank[0]).relu() @ self.bank[1])


@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_dimension_that_is_summed_over_in_one_weight_and_carried_in_another_stays(output: str) -> None:
    teacher = randomise(BothWays().double())
    widths = fxgrow.widths(teacher, X, output=output)
    with pytest.raises(fxgrow.PlanError, match="bank"):
        fxgrow.plan(widths, {"a": 12})


class Turned(nn.Module):
    """Convolutions by one kernel in several orientations, as in networks that are equivariant under rotations."""

    def __init__(self, turn: Callable[[Tensor], list[Tensor]]) -> None:
        super().__init__()
        self.turn = turn
        self.stem, self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).relu()
        found = [F.conv2d(h, weight, self.conv.bias) for weight in self.turn(self.conv.weight)]
        return self.head(torch.stack(found).amax(0))


TURNS: dict[str, Callable[[Tensor], list[Tensor]]] = {
    "rotated": lambda w: [torch.rot90(w, times, (2, 3)) for times in range(4)],
    "reversed": lambda w: [w, w.flip(3), w.flip([2, 3])],
    "rolled": lambda w: [w, w.roll(1, 2), torch.roll(w, (1, 2), (2, 3))],
}


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("turn", TURNS)
def test_kernels_that_are_turned_keep_being_weights(turn: str, output: str) -> None:
    teacher = randomise(Turned(TURNS[turn]).double())
    images = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    student = fxgrow.grow(teacher, 2.0, images, output=output)
    assert student.get_parameter("conv.weight").shape == (12, 16, 3, 3)
    assert_exact(teacher, student, images, 1e-10)


def test_the_dimension_that_is_picked_from_stays() -> None:
    widths = fxgrow.widths(Net(_loop).double(), X)
    with pytest.raises(fxgrow.PlanError, match="picked by number"):
        fxgrow.plan(widths, {"up.weight[0]": 4})


class GroupedExperts(nn.Module):
    """A mixture of experts whose products are made group by group in one call, as those of transformers are."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.router, self.d = nn.Linear(8, 16), nn.Linear(16, 3), nn.Linear(16, 4)
        self.up, self.down = nn.Parameter(torch.randn(3, 24, 16) * 0.3), nn.Parameter(torch.randn(3, 16, 24) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        expert = self.router(h).argmax(-1)
        order, ends = expert.argsort(), expert.bincount(minlength=3).cumsum(0).to(torch.int32)
        y = torch._grouped_mm(h[order], self.up.transpose(1, 2), offs=ends).relu()
        y = torch._grouped_mm(y, self.down.transpose(1, 2), offs=ends)
        return self.d(torch.zeros_like(y).index_copy(0, order, y))


@pytest.mark.skipif(not hasattr(torch, "_grouped_mm"), reason="this torch has no such operator")
@pytest.mark.parametrize("method", ["auto", "split", "even"])
@pytest.mark.parametrize("output", ["graph", "module"])
def test_experts_that_are_multiplied_group_by_group_grow(output: str, method: str) -> None:
    torch.manual_seed(0)
    teacher, x = randomise(GroupedExperts()), torch.randn(12, 8)
    student = fxgrow.grow(teacher, 2.0, x, output=output, method=method)
    assert student.get_parameter("up").shape == (3, 48, 32)
    assert student.get_parameter("down").shape == (3, 32, 48)
    assert_exact(teacher, student, x, 1e-5)
