"""What a parameter or buffer is follows from the calls that it is given to, not from its name."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from tests.check import assert_exact, randomise


class OwnNorm(nn.Module):
    """A batch norm with names of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g, self.b = nn.Parameter(torch.rand(channels) + 0.5), nn.Parameter(torch.randn(channels))
        self.register_buffer("mu", torch.randn(channels))
        self.register_buffer("var", torch.rand(channels) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mu, self.var, self.g, self.b, self.training)


class Net(nn.Module):
    """Two convolutions and a classifier, with a norm behind each; the layers have names of their own, too."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.w, self.c = nn.Parameter(torch.randn(6, 3, 3, 3)), nn.Parameter(torch.randn(6))
        self.one = OwnNorm(6) if own else nn.BatchNorm2d(6)
        self.head, self.two = nn.Linear(6, 4), OwnNorm(4) if own else nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.one(F.conv2d(x, self.w, self.c)))
        return self.two(self.head(x.mean((2, 3))))


X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
NAMES = {"weight": "g", "bias": "b", "running_mean": "mu", "running_var": "var"}


def _kinds(plan: fxgrow.Plan) -> dict[str, str]:
    return {tensor.name: tensor.kind for tensor in plan.tensors}


def test_a_norm_of_ones_own_has_the_kinds_of_a_batch_norm() -> None:
    plan = fxgrow.plan(fxgrow.widths(Net(own=True), X), [2.0, fxgrow.Outputs(6)])
    kinds = _kinds(plan)
    for norm in ("one", "two"):
        assert kinds[f"{norm}.g"] == "gain"
        assert kinds[f"{norm}.b"] == "shift"
        assert kinds[f"{norm}.mu"] == "running_mean"
        assert kinds[f"{norm}.var"] == "running_var"
    assert (kinds["w"], kinds["c"], kinds["head.weight"], kinds["head.bias"]) == ("weight", "bias", "weight", "bias")


@pytest.mark.parametrize(
    "spec", [2.0, fxgrow.Outputs(6, "zero"), fxgrow.Outputs(6, "mean"), fxgrow.Outputs(6)], ids=repr
)
def test_a_norm_of_ones_own_grows_bit_for_bit_as_a_batch_norm(spec: object) -> None:
    theirs, own = randomise(Net(own=False)), Net(own=True)
    own.load_state_dict(_renamed(theirs.state_dict()))
    expected, student = fxgrow.grow(theirs, spec, X), fxgrow.grow(own, spec, X)
    if isinstance(spec, float):
        assert_exact(own, student, X, 1e-5)
    assert student.state_dict().keys() == _renamed(expected.state_dict()).keys()
    for name, tensor in _renamed(expected.state_dict()).items():
        assert torch.equal(tensor, student.state_dict()[name]), name


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state of the net with batch norms under the names of the other."""
    renamed = {}
    for name, tensor in state.items():
        norm, _, last = name.rpartition(".")
        if last != "num_batches_tracked":
            renamed[f"{norm}.{NAMES[last]}" if norm in ("one", "two") else name] = tensor
    return renamed


def test_new_outputs_of_zeros_stay_zero_behind_a_norm_of_ones_own() -> None:
    student = fxgrow.grow(Net(own=True), fxgrow.Outputs(6, "zero"), X)
    assert not student.eval()(X)[:, 4:].count_nonzero()


class Added(nn.Module):
    """Biases that are added by hand: to a product, and to what is none."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(8, 5))
        self.to_product, self.to_other = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(8))
        self.variance = nn.Parameter(torch.rand(8) + 0.5)
        self.slopes = nn.Parameter(torch.rand(8))
        self.out = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.prelu(F.linear(x, self.w).unsqueeze(0).squeeze(0) + self.to_product, self.slopes)
        return self.out(x / torch.sqrt(self.variance + 1e-5) + self.to_other)


def test_what_is_added_to_a_product_is_a_bias_and_else_a_shift() -> None:
    kinds = _kinds(fxgrow.plan(fxgrow.widths(Added(), torch.randn(3, 5)), 2.0))
    assert kinds["to_product"] == "bias"
    assert kinds["to_other"] == "shift"
    assert kinds["variance"] == kinds["slopes"] == "other"
    assert kinds["w"] == kinds["out.weight"] == "weight"


def test_a_name_alone_makes_no_running_variance() -> None:
    class Misnamed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 2)
            self.register_buffer("running_var", torch.rand(8))

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.relu(self.a(x)) * self.running_var)

    torch.manual_seed(0)
    net = Misnamed()
    plan = fxgrow.plan(fxgrow.widths(net, torch.randn(3, 5)), 2.0)
    assert _kinds(plan)["running_var"] == "other"
    as_norm = dataclasses.replace(
        plan,
        tensors=tuple(
            dataclasses.replace(t, kind="running_var") if t.name == "running_var" else t for t in plan.tensors
        ),
    )
    one, other = (fxgrow.apply(each, net).get_parameter("a.weight")[8:].abs().max() for each in (plan, as_norm))
    assert one > 2 * other
