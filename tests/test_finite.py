"""New channels are replicas where others could be infinite, or positions out of range."""

from collections.abc import Callable
from math import inf, nan
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from fxgrow import Outputs, Widen
from tests.check import assert_exact

Function = Callable[[Tensor], Tensor]
X = torch.randn(2, 3, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Between(nn.Module):
    """conv -> function -> conv; the numbers between them are small, those of a fresh channel are not."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.a, self.b, self.function = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1), function
        self.register_buffer("limit", torch.tensor(inf))
        self.register_buffer("edge", torch.tensor([0.0] * 4 + [-inf]))
        with torch.no_grad():
            self.a.weight.mul_(0.1)
            self.a.bias.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.function(self.a(x)))


def _teacher(function: Function) -> Between:
    torch.manual_seed(0)
    teacher = Between(function).double()
    assert teacher(X).isfinite().all()
    return teacher


def _methods(student: nn.Module) -> list[str]:
    plan = fxgrow.plan_of(student)
    assert plan is not None
    return [width.method for width in plan.grown_widths]


def _assign(h: Tensor) -> Tensor:
    h = h.clone()
    h[h > 2.5] = inf
    return h


SELECTED: dict[str, Function] = {
    "masked_fill": lambda h: h.masked_fill(h > 2.5, inf),
    "masked_fill with a tensor": lambda h: h.masked_fill(h > 2.5, torch.tensor(-inf)),
    "masked_fill in place": lambda h: h.clone().masked_fill_(h > 2.5, nan),
    "where with a number": lambda h: torch.where(h < 2.5, h, nan),
    "where with a tensor": lambda h: torch.where(h > 2.5, torch.tensor(inf, dtype=h.dtype), h),
    "where with a filled tensor": lambda h: torch.where(h > 2.5, torch.full_like(h, inf), h),
    "threshold": lambda h: -F.threshold(-h, -2.5, -inf),
    "an assignment": _assign,
    "a product": lambda h: 1 / (1 + (F.relu(h - 2.5) + 1) * inf),
    "a sum that is multiplied": lambda h: torch.exp(-((F.relu(-h).add(1) + inf) * (h * 0 + 1))),
    "a mask that is multiplied": lambda h: torch.sigmoid(h * torch.tensor([1.0, 1.0, 1.0, 1.0, inf])),
    "a division by zero": lambda h: torch.sigmoid(h / 0),
    "the remainder of a division by zero": lambda h: torch.nan_to_num(h % 0.0),
    "a high power": lambda h: h**400,
}


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("name", SELECTED)
def test_where_a_channel_can_become_infinite_new_ones_are_replicas(
    name: str, output: Literal["graph", "module"]
) -> None:
    teacher = _teacher(SELECTED[name])
    student = fxgrow.grow(teacher, 2.0, X, output=output)
    assert _methods(student) == ["split"]
    assert_exact(teacher, student, X, 1e-10)
    with pytest.raises(fxgrow.PlanError, match=r"zero_out adds channels that are no replicas, which .* needs"):
        fxgrow.grow(teacher, {"a": 16}, X, method="zero_out", output=output)


class Limited(Between):
    """The infinity is a buffer."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(torch.where(h > 2.5, self.limit.expand(5)[1:2], h))


def test_an_infinite_buffer_is_known_as_such() -> None:
    torch.manual_seed(0)
    teacher = Limited(F.relu).double()
    student = fxgrow.grow(teacher, 2.0, X)
    assert _methods(student) == ["split"]
    assert_exact(teacher, student, X, 1e-10)


class Edged(Between):
    """A buffer of minus infinity is added in front of a softmax over space."""

    def forward(self, x: Tensor) -> Tensor:
        return self.b((self.a(x) + self.edge).softmax(-1))


HARMLESS: dict[str, Function] = {
    "a clamp from below": lambda h: h.clamp(0.0, inf),
    "a clamp from above": lambda h: h.clamp(-inf, 1.0),
    "hardtanh": lambda h: F.hardtanh(h, -inf, 1.0),
    "a softmax over what a mask leaves": lambda h: h.masked_fill(
        torch.tensor([True, False, False, False, True]), -inf
    ).softmax(-1),
    "a mask that is added before a softmax": lambda h: (h + torch.tensor([0.0, -inf, 0.0, 0.0, 0.0])).softmax(-1),
    "a triangle of minus infinity": lambda h: (h[..., :5, :] + torch.full((5, 5), -inf, dtype=h.dtype).triu(1)).softmax(
        -1
    ),
    "a maximum norm": lambda h: torch.linalg.vector_norm(h, inf, dim=(2, 3), keepdim=True) * h,
    "a comparison": lambda h: h * (h < inf),
    "a finite constant": lambda h: h.masked_fill(h > 2.5, 1e4),
    "a finite threshold": lambda h: F.threshold(h, 0.1, 20.0),
    "a quotient by infinity": lambda h: h + h / inf,
    "a low power": lambda h: h**3,
}


@pytest.mark.parametrize("name", HARMLESS)
def test_fresh_channels_where_an_infinity_is_at_the_same_places_for_all(name: str) -> None:
    teacher = _teacher(HARMLESS[name])
    student = fxgrow.grow(teacher, 2.0, X)
    assert _methods(student) == ["zero_out"]
    assert_exact(teacher, student, X, 1e-10)


def test_fresh_channels_where_an_infinite_buffer_is_added_before_a_softmax() -> None:
    teacher = Edged(F.relu).double()
    student = fxgrow.grow(teacher, 2.0, X)
    assert _methods(student) == ["zero_out"]
    assert_exact(teacher, student, X, 1e-10)


def _steps(h: Tensor) -> Tensor:
    """Whole numbers from 0 to 6 for the teacher's small activations."""
    return (h * 3).round().long() + 3


TABLE = torch.arange(7.0, dtype=torch.float64)
INDEXED: dict[str, Function] = {
    "embedding": lambda h: F.embedding(_steps(h), TABLE[:, None]).squeeze(-1),
    "index": lambda h: TABLE[_steps(h)],
    "an index of two": lambda h: torch.outer(TABLE, TABLE)[_steps(h), _steps(h)],
    "gather": lambda h: (TABLE + 0 * h[..., :1]).gather(3, _steps(h)),
    "take_along_dim": lambda h: torch.take_along_dim(TABLE + 0 * h[..., :1], _steps(h), 3),
    "scatter": lambda h: (h.new_zeros(*h.shape[:3], 7) + h[..., :1]).scatter(3, _steps(h), 1.0)[..., :5],
    "scatter_add": lambda h: (h.new_zeros(*h.shape[:3], 7) + h[..., :1]).scatter_add(3, _steps(h), h)[..., :5],
    "one_hot": lambda h: F.one_hot(_steps(h), 7).to(h.dtype).mul(TABLE).sum(-1),
    "one_hot of counts": lambda h: F.one_hot((h > 0.3).sum(-1, keepdim=True), 5).to(h.dtype).mul(TABLE[:5]).sum(-1),
    "a cast to 32 bits": lambda h: TABLE[_steps(h).int().long()],
    "a copy into whole numbers": lambda h: TABLE[torch.zeros_like(h, dtype=torch.long).copy_(h * 3) + 3],
    "a choice of positions": lambda h: TABLE[torch.where(h > 2.5, 9, 4)],
    "a count": lambda h: TABLE[:5][(h > 0.5).sum(-1, keepdim=True)],
    "random samples of a pool": lambda h: F.fractional_max_pool2d(
        h, 2, 2, _random_samples=h[:, :, 0, :2].abs().detach()
    ),
}


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("name", INDEXED)
def test_where_values_are_positions_new_channels_are_replicas(name: str, output: Literal["graph", "module"]) -> None:
    teacher = _teacher(INDEXED[name])
    student = fxgrow.grow(teacher, 2.0, X, output=output)
    assert _methods(student) == ["split"]
    assert_exact(teacher, student, X, 1e-10)


def test_a_mask_is_no_position() -> None:
    teacher = _teacher(lambda h: h * (h > 0).to(h.dtype) + torch.where(h > 0.1, h, 2 * h))
    assert _methods(fxgrow.grow(teacher, 2.0, X)) == ["zero_out"]


class Normed(nn.Module):
    """A linear map whose rows are normalised."""

    def __init__(self, norm: Function) -> None:
        super().__init__()
        self.weight, self.norm = nn.Parameter(torch.randn(4, 5)), norm

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.norm(self.weight))


ROW_NORMS: dict[str, Function] = {
    "norm": lambda w: w / w.norm(dim=1, keepdim=True),
    "sum of squares": lambda w: w * w.square().sum(1, keepdim=True).rsqrt(),
    "largest": lambda w: w / w.abs().amax(1, keepdim=True),
    "sum": lambda w: w * w.abs().sum(1, keepdim=True).reciprocal(),
}


@pytest.mark.parametrize("name", ROW_NORMS)
def test_rows_that_are_normalised_cannot_be_zero(name: str) -> None:
    torch.manual_seed(0)
    teacher, x = Normed(ROW_NORMS[name]).double(), torch.randn(3, 5, dtype=torch.float64)
    with pytest.raises(fxgrow.PlanError, match=r"may make it infinite or NaN.*ask for new='mean' or new='random'"):
        fxgrow.grow(teacher, Outputs(6, new="zero"), x)
    for new in ("mean", "random"):
        student = fxgrow.grow(teacher, Outputs(6, new=new), x)
        assert student(x).isfinite().all()
        assert torch.allclose(student(x)[:, :4], teacher(x), 1e-12, 1e-12)


BOUNDED: dict[str, Function] = {
    "normalize": lambda h: F.normalize(h, dim=-1),
    "a clamp": lambda h: h / h.abs().clamp(min=1e-6),
    "a clamp in place": lambda h: h.clone().div_(h.square().clamp_min_(1e-3)),
    "a negative one": lambda h: h / -h.square().clamp_min(1e-3).unsqueeze(0).squeeze(0),
    "none, compared with a constant": lambda h: h + (h == torch.tensor([0.5], dtype=h.dtype)),
    "none, whole numbers filled with one": lambda h: h * torch.zeros_like(h, dtype=torch.int64).fill_(2),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_fresh_channels_where_a_divisor_has_a_lower_bound(name: str) -> None:
    teacher = _teacher(BOUNDED[name])
    student = fxgrow.grow(teacher, 2.0, X)
    assert _methods(student) == ["zero_out"]
    assert_exact(teacher, student, X, 1e-10)


@pytest.mark.parametrize("bound", [0.0, -1.0, 1e-200])
def test_replicas_where_the_bound_of_a_divisor_is_none(bound: float) -> None:
    student = fxgrow.grow(_teacher(lambda h: h / h.abs().clamp(min=bound)), 2.0, X)
    assert _methods(student) == ["split"]


def _shifted(h: Tensor, by: float) -> Tensor:
    """The same memory, written to through a view."""
    h.view(h.shape).sub_(by)
    return h


OVERWRITTEN: dict[str, Function] = {
    "a divisor with a lower bound": lambda h: h / _shifted(h.abs().clamp(min=1e-3), 5e-4),
    "a sum with what was not negative": lambda h: 1 / (_shifted(h.abs(), 1.0) + 1.0),
    "the root of what was not negative": lambda h: torch.sqrt(_shifted(h.abs() + 1.0, 1.0)),
}


@pytest.mark.parametrize("name", OVERWRITTEN)
def test_replicas_where_a_view_has_overwritten_what_had_a_bound(name: str) -> None:
    """Of what is overwritten nothing is known any more."""
    student = fxgrow.grow(_teacher(OVERWRITTEN[name]), 2.0, X)
    assert _methods(student) == ["split"]


def test_replicas_where_rows_are_divided_by_a_norm_that_a_view_has_overwritten() -> None:
    """A random row has a norm that is not zero; less a number, it may be zero."""
    torch.manual_seed(0)
    x = torch.randn(3, 5, dtype=torch.float64)
    for norm, method in ((lambda w: w.norm(dim=1, keepdim=True), "zero_out"), (_shorter, "split")):
        layer = Normed(lambda w, norm=norm: w / norm(w))  # type: ignore[misc]
        teacher = nn.Sequential(layer, nn.Tanh(), nn.Linear(4, 2)).double()
        student = fxgrow.grow(teacher, 2.0, x)
        assert _methods(student) == [method]
        assert_exact(teacher, student, x, 1e-10)


def _shorter(w: Tensor) -> Tensor:
    return _shifted(w.norm(dim=1, keepdim=True), 0.1)


class Scaled(nn.Module):
    """What a layer makes, divided by a parameter."""

    def __init__(self, *, by_bias: bool) -> None:
        super().__init__()
        self.layer, self.scale, self.by_bias = nn.Linear(5, 4), nn.Parameter(torch.rand(4) + 1), by_bias

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) / (self.layer.bias if self.by_bias else self.scale)


@pytest.mark.parametrize("by_bias", [False, True])
def test_rows_that_are_divided_by_a_parameter_may_be_zero_where_that_is_not(by_bias: bool) -> None:
    """A bias that is also divided by is no shift to the plan: its new entries are the mean of the old."""
    teacher, x = Scaled(by_bias=by_bias).double(), torch.randn(3, 5, dtype=torch.float64)
    student = fxgrow.grow(teacher, Outputs(6, new="zero"), x)
    assert student(x).isfinite().all()
    assert torch.equal(student(x)[:, :4], teacher(x))


def test_new_outputs_may_be_zero_where_functions_of_zero_are_finite() -> None:
    teacher = nn.Sequential(nn.Linear(5, 4), nn.Softplus()).double()
    x = torch.randn(3, 5, dtype=torch.float64)
    assert fxgrow.grow(teacher, Outputs(6, new="zero"), x)(x).isfinite().all()


class Both(nn.Module):
    """Returns what a layer makes, and a function of it that another layer reads."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.a, self.b, self.function = nn.Linear(5, 4), nn.Linear(4, 3), function

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.a(x)
        return y, self.b(self.function(y))


@pytest.mark.parametrize("new", ["zero", "mean", "random"])
@pytest.mark.parametrize("function", [torch.log, lambda y: 1 / y, lambda y: y.masked_fill(y < 0, inf), torch.rsqrt])
def test_new_outputs_that_another_layer_reads_stay_finite(function: Function, new: str) -> None:
    teacher, x = Both(function).double(), torch.randn(3, 5, dtype=torch.float64)
    with pytest.raises(fxgrow.PlanError, match="may make it infinite or NaN"):
        fxgrow.grow(teacher, Outputs(6, new=new, pattern="a"), x)


def test_widths_that_need_replicas_say_why() -> None:
    graph = fxgrow.widths(_teacher(INDEXED["index"]), X)
    assert any("positions" in reason for reason in graph.groups_by_name["a"].replicas)
    graph = fxgrow.widths(_teacher(SELECTED["where with a number"]), X)
    assert any("infinity" in reason for reason in graph.groups_by_name["a"].replicas)
    with pytest.raises(fxgrow.PlanError, match="zero_out"):
        fxgrow.plan(graph, Widen("a", 16, method="zero_out"))
