"""Large numbers, whose products are infinite, and dtypes of a smaller range: new channels stay finite."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from fxgrow import Outputs, Widen
from fxgrow.base.magnitude import far_from_zero, is_narrower
from tests.check import assert_exact, randomise

Function = Callable[[Tensor], Tensor]
X = torch.randn(2, 3, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
LARGEST = torch.finfo(torch.float64).max


class Between(nn.Module):
    """conv -> function -> conv; the numbers between them are small, those of a fresh channel are not."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.a, self.b, self.function = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1), function
        with torch.no_grad():
            self.a.weight.mul_(0.1)
            self.a.bias.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.function(self.a(x)))


def _grown(function: Function) -> tuple[nn.Module, nn.Module, list[str]]:
    torch.manual_seed(0)
    teacher = Between(function).double()
    assert teacher(X).isfinite().all()
    student = fxgrow.grow(teacher, 2.0, X)
    plan = fxgrow.plan_of(student)
    assert plan is not None
    return teacher, student, [width.method for width in plan.grown_widths]


FAR: dict[str, Function] = {
    "two factors": lambda h: F.relu(h - 2.5) * 1e200 * 1e200 + h,
    "two divisions": lambda h: F.relu(h - 2.5) / 1e-200 / 1e-200 + h,
    "the largest number, filled in and squared": lambda h: h.masked_fill(h > 2.5, LARGEST) ** 2,
    "the largest number, chosen and scaled": lambda h: torch.where(h > 2.5, LARGEST, h) * 4,
    "the largest number, behind a threshold": lambda h: -F.threshold(-h, -2.5, -LARGEST) * 4,
    "the largest number, in a constant": lambda h: torch.where(h > 2.5, torch.full_like(h, LARGEST), h) * 4,
    "a weight of an interpolation": lambda h: torch.lerp(h, h * 2, F.relu(h - 2.5) * 1e308 * 1e10),
    "a scaled product": lambda h: torch.addcmul(h, F.relu(h - 2.5), torch.ones_like(h), value=1e308) * 10,
    "half precision": lambda h: (h * 100).mul(200).half().double(),
    "half precision, by its name": lambda h: (h * 100).mul(200).to(torch.float16).to(h.dtype),
}


@pytest.mark.parametrize("name", FAR)
def test_where_large_numbers_can_become_infinite_new_channels_are_replicas(name: str) -> None:
    teacher, student, methods = _grown(FAR[name])
    assert methods == ["split"]
    assert_exact(teacher, student, X, 1e-10)


@pytest.mark.parametrize("factor", [1000, 1000.0])
def test_which_numbers_are_large_is_a_matter_of_the_dtype(factor: float) -> None:
    for dtype in (torch.float16, torch.float32):
        graph = fxgrow.widths(Between(lambda h: h * factor).to(dtype), X.to(dtype))
        assert bool(graph.groups_by_name["a"].replicas) is (dtype == torch.float16)


@pytest.mark.parametrize(("share", "far"), [(1.0, True), (0.999, False)])
def test_a_number_is_large_from_that_magnitude_on(share: float, far: bool) -> None:
    number = far_from_zero([torch.float32]) * share
    graph = fxgrow.widths(Between(lambda h: h.masked_fill(h > 2.5, number)), X.float())
    assert bool(graph.groups_by_name["a"].replicas) is far


NEAR: dict[str, Function] = {
    "a large factor": lambda h: h * 1e6,
    "a large value, filled in": lambda h: h.masked_fill(h > 2.5, -1e9),
    "single precision": lambda h: h.float().double() * 0 + h,
    "bfloat16": lambda h: h.bfloat16().double() * 0 + h,
    "a bound that no number reaches": lambda h: h.clamp(-LARGEST, LARGEST),
    "a softmax over what the smallest number leaves out": lambda h: h.masked_fill(
        torch.tensor([True, False, False, False, True]), -LARGEST
    ).softmax(-1),
}


@pytest.mark.parametrize("name", NEAR)
def test_fresh_channels_where_numbers_stay_finite(name: str) -> None:
    teacher, student, methods = _grown(NEAR[name])
    assert methods == ["zero_out"]
    assert_exact(teacher, student, X, 1e-10)


class Filled(Between):
    """What is filled in is a parameter of one entry per channel, of four dimensions."""

    def __init__(self) -> None:
        super().__init__(F.relu)
        self.limit = nn.Parameter(torch.full((1, 8, 1, 1), torch.inf), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(torch.where(h > 2.5, self.limit, h))


def test_a_parameter_per_channel_that_is_infinite_is_known_as_such() -> None:
    torch.manual_seed(0)
    teacher = Filled().double()
    student = fxgrow.grow(teacher, 2.0, X)
    plan = fxgrow.plan_of(student)
    assert plan is not None
    assert [width.method for width in plan.grown_widths] == ["split"]
    assert student(X).isfinite().all()
    assert torch.allclose(student(X), teacher(X), 1e-10, 1e-10)


def test_new_outputs_of_zero_are_refused_where_zero_selects_an_infinity() -> None:
    class Marked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(x)
            return torch.where(y == 0, torch.inf, y)

    x = torch.randn(3, 5)
    with pytest.raises(fxgrow.PlanError, match="may make it infinite or NaN"):
        fxgrow.grow(Marked(), Outputs(6, new="zero"), x)
    assert fxgrow.grow(Marked(), Outputs(6, new="random"), x)(x).isfinite().all()


def test_what_counts_as_far_from_zero() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64):
        far = far_from_zero([dtype, torch.float64, torch.int64])
        assert torch.tensor(far * 0.99, dtype=dtype).square().isfinite()
        assert not torch.tensor(far * 1.01, dtype=dtype).square().isfinite()
    assert is_narrower(torch.float16, torch.float32)
    assert not is_narrower(torch.bfloat16, torch.float64)
    assert not is_narrower(torch.float16, torch.float16)
    assert not is_narrower(torch.int8, torch.float32)


class Rounded(nn.Module):
    """A stream whose numbers are rounded in front of a layer norm."""

    def __init__(self, dtype: torch.dtype, *, normed: bool) -> None:
        super().__init__()
        self.stem, self.norm, self.head = nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 3)
        self.dtype, self.normed = dtype, normed

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.norm(x) if self.normed else self.norm(x.to(self.dtype).double())
        return self.head(x.to(self.dtype).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_mean_of_channels_is_not_carried_through_a_rounding(dtype: torch.dtype) -> None:
    teacher, x = randomise(Rounded(dtype, normed=False).double()), torch.randn(4, 5, dtype=torch.float64)
    with pytest.raises(fxgrow.PlanError, match="rounds, after which a mean is not that of the other channels"):
        fxgrow.grow(teacher, Widen("stem", 12, indivisible="average"), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_a_layer_norm_leaves_zero_stays_zero_through_a_rounding(dtype: torch.dtype) -> None:
    teacher, x = randomise(Rounded(dtype, normed=True).double()), torch.randn(4, 5, dtype=torch.float64)
    student = fxgrow.grow(teacher, Widen("stem", 12, indivisible="average"), x)
    plan = fxgrow.plan_of(student)
    assert plan is not None
    assert any(width.mean_channels for width in plan.grown_widths)
    assert_exact(teacher, student, x, 1e-6 if dtype == torch.float32 else 1e-2)
