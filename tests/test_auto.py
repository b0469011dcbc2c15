"""The default method: fresh channels where they are exact, replicas where they are not, told for each width."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from fxgrow.methods import Columns, method
from tests.check import assert_exact, given, randomise
from tests.nets import NETS

X = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Between(nn.Module):
    """A function between two linear layers, the first of which grows; its numbers are of all sizes and signs."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.function = nn.Linear(6, 8), nn.Linear(8, 5), function

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.function(self.a(x)))


PARTIAL = {
    "log": lambda x: (x.abs() + 1e-300).log(),
    "sqrt": lambda x: F.relu(x).add(1e-300).sqrt(),
    "rsqrt": lambda x: (x * x + 1e-300).rsqrt(),
    "exp": lambda x: (100 * x).clamp(max=700).exp().clamp(max=9.0),
    "divide": lambda x: x / (1e-300 + x.abs()),
    "divide_in_place": lambda x: x.clone().div_(1e-300 + x * x),
    "reciprocal": lambda x: 1 / (x.abs() + 1e-300),
    "power": lambda x: x.abs() ** 0.5,
    "root": lambda x: x.abs() ** -1,
    "acos": lambda x: x.tanh().acos(),
    "standard_deviation": lambda x: x + torch.stack([x, 2 * x], -1).std(-1),
}


@pytest.mark.parametrize("name", PARTIAL)
def test_what_has_no_value_for_some_numbers_gets_replicas(name: str) -> None:
    teacher = Between(PARTIAL[name]).double()
    student = fxgrow.grow(teacher, 2.0, X)
    assert [(w.name, w.method) for w in fxgrow.plan_of(student).grown_widths] == [("a", "split")]
    assert_exact(teacher, student, (X,), 1e-10)
    with pytest.raises(fxgrow.PlanError, match=r"zero_out adds channels that are no replicas, which .* needs"):
        fxgrow.grow(teacher, {"a": 16}, X, method="zero_out")


def test_a_fresh_channel_would_be_infinite_there() -> None:
    """What the refusal is for: 0 times an infinite activation is nan."""
    teacher = Between(torch.log).double()
    with torch.no_grad():
        teacher.a.weight.zero_()
        teacher.a.bias.fill_(1.0)
    assert torch.isfinite(teacher(X)).all()
    even = fxgrow.grow(teacher, 2.0, X, method="even")
    columns = Columns(0, torch.arange(8).repeat(2), torch.arange(16) < 8)
    with torch.no_grad():
        method("zero_out").produce(even.a.weight, columns, torch.Generator().manual_seed(0))
        method("zero_out").contract(even.b.weight, Columns(1, columns.index, columns.original), torch.Generator())
    assert not torch.isfinite(even(X)).all()
    assert_exact(teacher, fxgrow.grow(teacher, 2.0, X), (X,), 1e-10)


BOUNDED: dict[str, Callable[[Tensor], Tensor]] = {
    "sqrt": lambda x: F.relu(x).add(1e-9).sqrt(),
    "rsqrt": lambda x: (x * x + 1e-9).rsqrt(),
    "divide": lambda x: x / (x.abs() + 1e-9),
    "divide_in_place": lambda x: x.clone().div_(x * x + 1e-9),
    "power": lambda x: (x.square() + 1e-9) ** -0.5,
}


@pytest.mark.parametrize(
    "function",
    [
        F.relu,
        F.gelu,
        torch.tanh,
        lambda x: x**2,
        lambda x: x / 3,
        lambda x: x * x.sigmoid(),
        F.softplus,
        *BOUNDED.values(),
    ],
)
def test_fresh_channels_where_every_number_has_a_value(function: Callable[[Tensor], Tensor]) -> None:
    teacher = Between(function).double()
    student = fxgrow.grow(teacher, 2.0, X)
    assert [w.method for w in fxgrow.plan_of(student).grown_widths] == ["zero_out"]
    assert_exact(teacher, student, (X,), 1e-10)
    assert not student.b.weight[:, 8:].any()
    with torch.no_grad():
        student.b.weight[2, 8:] = 1e-3  # one of them may be zero behind a ReLU
    assert not fxgrow.verify(teacher, student, X).exact, "columns that are not zero are heard"


def test_widths_of_one_net_may_be_filled_in_two_ways() -> None:
    net = NETS["vision_transformer"]
    teacher = randomise(net.make().double())
    inputs = tuple(x.double() for x in net.inputs())
    student = fxgrow.grow(teacher, 2.0, inputs)
    plan = fxgrow.plan_of(student)
    assert {w.method for w in plan.grown_widths} == {"zero_out", "split"}
    assert plan.width("mlp.0").method == "zero_out"
    assert_exact(teacher, student, inputs, 1e-10)


def test_the_factors_of_one_dimension_are_filled_alike() -> None:
    """Two methods in one product would be refused."""
    net = NETS["grouped_after_grouped"]
    teacher = randomise(net.make().double())
    inputs = given(net.inputs(), torch.float64)
    found = fxgrow.widths(teacher, inputs)
    for name in ("groups of 1", "groups of 3"):
        bound = dataclasses.replace(found.groups_by_name[name], replicas=("something",))
        plan = fxgrow.plan(
            dataclasses.replace(found, groups_by_name={**found.groups_by_name, name: bound}),
            fxgrow.Widen("*", 2.0, cardinality=True),
        )
        chosen = {w.name: w.method for w in plan.grown_widths}
        assert chosen["groups of 1"] == chosen["groups of 3"] == "split"
        assert_exact(teacher, fxgrow.apply(plan, teacher), inputs, 1e-10)


def test_a_named_method_is_kept() -> None:
    student = fxgrow.grow(Between(F.relu).double(), [fxgrow.Widen("a", 12, method="split")], X)
    assert [w.method for w in fxgrow.plan_of(student).grown_widths] == ["split"]


def test_a_plan_cannot_leave_the_choice_open() -> None:
    plan = fxgrow.plan_of(fxgrow.grow(Between(F.relu).double(), 2.0, X)).to_json()
    plan = plan.replace('"method": "zero_out"', '"method": "auto"')
    with pytest.raises(fxgrow.PlanError, match="auto"):
        fxgrow.apply(fxgrow.Plan.from_json(plan), Between(F.relu).double())


def test_every_new_weight_learns() -> None:
    """Zero columns get gradients at once, the rows before them from the second step on."""
    student = fxgrow.grow(NETS["res_net"].make().double(), 2.0, tuple(x.double() for x in NETS["res_net"].inputs()))
    assert {w.method for w in fxgrow.plan_of(student).grown_widths} == {"zero_out"}
    before = {name: p.detach().clone() for name, p in student.named_parameters()}
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        out = student(*(x.double() for x in NETS["res_net"].inputs()))
        (out - 1).square().sum().backward()
        optimizer.step()
    for tensor in fxgrow.plan_of(student).tensors:
        if tensor.name in before:
            moved = (student.get_parameter(tensor.name) - before[tensor.name]).flatten().ne(0)
            assert moved.double().mean() > 0.5, tensor.name


def test_fresh_rows_are_small_behind_a_batch_norm_and_keep_the_signal_elsewhere() -> None:
    """Variance 1/(3 fan-in), torch.nn's own, where their scale does not count, else 2/fan-in (He et al.)."""
    layers = [nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten()]
    teacher = nn.Sequential(*layers, nn.Linear(64 * 16, 10)).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    student = fxgrow.grow(teacher, 4.0, x)
    assert {w.method for w in fxgrow.plan_of(student).grown_widths} == {"zero_out"}
    normed, plain = student.get_parameter("0.weight")[64:], student.get_parameter("3.weight")[64:, :64]
    torch.testing.assert_close(normed.square().mean().item(), 1 / 3 / 27, rtol=0.1, atol=0)
    torch.testing.assert_close(plain.square().mean().item(), 2 / (4 * 64 * 9), rtol=0.1, atol=0)
    assert_exact(teacher, student, (x,), 1e-10)
