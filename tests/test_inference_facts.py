"""Facts that inference finds, and that no test of students sees where the check of a plan pins instead."""

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from fxgrow.capture.ladder import trace_model
from fxgrow.infer.findings import Flow, Prediction
from fxgrow.infer.freeze import IS_OUTPUT, _made, freeze
from fxgrow.infer.groups import Group
from fxgrow.infer.names import Names
from fxgrow.infer.width_graph import TensorWidths
from fxgrow.layouts.layout import measure
from fxgrow.ops import Value
from tests.nets import NETS
from tests.nets.registry import Call

ROWS = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))


def _attributes(model: nn.Module, x: Tensor, output: str, name: str) -> dict[str, list[int]]:
    """The sizes that each module's attribute of that name is found to be."""
    found = fxgrow.widths(model, x, output=output)  # type: ignore[call-overload]
    return {
        at.module: [measure(layout, found.width) for layout in at.layouts] for at in found.attributes if at.name == name
    }


@pytest.mark.parametrize(("eps", "replicas"), [(0.0, True), (1e-5, False)])
def test_channels_of_a_batch_norm_without_eps_are_replicas(eps: float, replicas: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8, eps=eps), nn.Conv2d(8, 2, 1))
    reasons = fxgrow.widths(model, IMAGES).groups_by_name["0"].replicas
    assert bool(reasons) is replicas
    assert all("batch norm without eps" in reason for reason in reasons)


@pytest.mark.parametrize(("order", "replicas"), [(0.5, True), (0, False), (1, False), (3, False), (None, False)])
def test_a_norm_of_an_order_below_1_needs_replicas(order: float | None, replicas: bool) -> None:
    def scaled(h: Tensor) -> Tensor:
        norm = F.normalize(h, dim=1) if order is None else torch.linalg.vector_norm(h, order, dim=1, keepdim=True)
        return h * norm

    model = nn.Sequential(nn.Linear(6, 8), Call(scaled), nn.Linear(8, 3))
    group = fxgrow.widths(model, torch.randn(2, 4, 6)).groups_by_name["0"]
    assert bool([reason for reason in group.replicas if "order" in reason]) is replicas


class Masked(nn.Module):
    """The numbers of one layer select entries of another's result."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x))
        h[self.b(x) > 0.5] = 0.1
        return self.c(h)


def test_a_mask_has_the_widths_of_what_it_selects() -> None:
    group = fxgrow.widths(Masked(), ROWS).groups_by_name["a"]
    assert {("a.weight", 0), ("b.weight", 0), ("c.weight", 1)} <= set(group.members)
    assert not group.pinned


@pytest.mark.parametrize("output", ["graph", "module"])
def test_the_sizes_of_an_unflattened_dimension_are_known(output: str) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Unflatten(1, (2, 4)), nn.Linear(4, 3))
    assert _attributes(model, ROWS, output, "unflattened_size")["1"] == [2, 4]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x, x, x, need_weights=False)[0])


@pytest.mark.parametrize("output", ["graph", "module"])
def test_the_number_of_heads_is_known(output: str) -> None:
    assert _attributes(Attention(), torch.randn(2, 5, 6), output, "num_heads")["a"] == [2]


class Sliced(nn.Module):
    """The first entry and the first three, by numbers that the module states."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes, self.a, self.b = (1, 3), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x))
        return self.b(h) + h[:, : self.sizes[0]] + h[:, : self.sizes[1]].sum(1, keepdim=True)


def test_a_slice_of_one_entry_states_the_size_of_that_entry() -> None:
    assert _attributes(Sliced(), ROWS, "module", "sizes") == {"": [1, 3]}


class Pair(nn.Module):
    def __init__(self, hidden: int, *, scaled: bool = True) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, hidden), nn.Linear(hidden, 6)
        self.scale = nn.Parameter(torch.rand(hidden)) if scaled else None

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.up(x))
        return x + self.down(h if self.scale is None else h * self.scale)


class Other(Pair):
    pass


def test_corresponding_widths_are_those_of_modules_of_the_same_class() -> None:
    found = fxgrow.widths(nn.Sequential(Pair(4), Other(5), Pair(7), Pair(9)), ROWS)
    assert found.alike("0", (), ["0.up"]) == [(("2.up",),), (("3.up",),)]
    assert found.alike("0", ("2",), ["0.up"], []) == [(("3.up",), ())]
    assert found.alike("1", (), ["1.up"]) == []


def test_modules_without_a_tensor_of_the_width_have_no_corresponding_one() -> None:
    class First(Pair):
        def __init__(self, hidden: int, *, scaled: bool) -> None:
            super().__init__(hidden, scaled=scaled)
            if scaled:
                self.first, self.last = nn.Linear(6, 3), nn.Linear(3, 6)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if self.scale is None else super().forward(x) + self.last(self.first(x).tanh())

    found = fxgrow.widths(nn.Sequential(First(4, scaled=True), First(5, scaled=False), First(7, scaled=True)), ROWS)
    assert found.alike("0", (), ["0.up"], ["0.first"]) == [(("2.up",), ("2.first",))]
    assert found.alike("0", (), ["0.first"]) == [(("2.first",),)]


class Dot(nn.Module):
    """A parameter times a vector, and a vector times another: a scalar each."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.w = nn.Linear(6, 8), nn.Linear(6, 10), nn.Parameter(torch.rand(8))

    def forward(self, x: Tensor) -> Tensor:
        h, g = torch.tanh(self.a(x)), torch.tanh(self.b(x))
        return torch.dot(h[0], self.w) + torch.dot(self.w, h[1]) + torch.dot(g[0], g[1])


def test_a_product_of_vectors_sums_over_their_one_dimension() -> None:
    found = fxgrow.widths(Dot(), ROWS, output="module")
    assert found.tensors["w"].roles == ("contract",)
    assert not found.groups_by_name["a"].pinned
    assert any("two activations" in reason for reason in found.groups_by_name["b"].pinned)


def test_the_operator_where_two_layers_meet_is_the_reason_though_others_are_one_width_through_it() -> None:
    class Meeting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.d = (nn.Linear(6, 8) for _ in range(4))
            self.last = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            a, b, c, d = self.a(x), self.b(x), self.c(x), self.d(x)
            sums, largest = a + b, torch.maximum(c, d)
            return self.last(torch.minimum(b, d) * sums * largest)

    why = fxgrow.widths(Meeting(), ROWS).why("b", "d")
    assert why.count(" -- ") == 2
    assert "minimum" in why


class Halved(nn.Module):
    """Two parts of a layer's result, by bounds behind a new dimension and behind an ellipsis."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 12), nn.Linear(4, 3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x))
        return self.b(h[None, :, :4])[0] + self.c(h[..., 4:])


def test_bounds_behind_a_new_dimension_and_an_ellipsis_follow_the_widths_that_they_cut() -> None:
    student = fxgrow.grow(Halved().double(), 2.0, ROWS.double())
    shapes = {name: tuple(p.shape) for name, p in student.named_parameters() if name.endswith("weight")}
    assert shapes == {"a.weight": (24, 6), "b.weight": (3, 8), "c.weight": (3, 16)}


@pytest.mark.parametrize(("first", "dim"), [((), 1), (("an output",), None)])
def test_a_name_means_the_dimension_that_can_grow_unless_another_is_an_output(
    first: tuple[str, ...], dim: int | None
) -> None:
    """A tensor whose second dimension is made of two widths, of which one may be an output of the model."""
    tensor = TensorWidths("w", ((("h",),), (("p",), ("q",)), (("i",),)), ("carry", "carry", "contract"))
    pinned = tuple([IS_OUTPUT for _ in first])
    groups = {"h": Group("h", 2, pinned=("a number of heads",)), "p": Group("p", 4, pinned=pinned), "q": Group("q", 4)}
    assert _made(tensor, {**groups, "i": Group("i", 4)}) == dim


@pytest.mark.parametrize("name", sorted(NETS)[::16])
def test_names_and_layouts_are_the_same_without_a_look_at_other_sizes(name: str) -> None:
    """`verify` takes them so, of a model whose plan has looked."""
    try:
        traced = trace_model(NETS[name].make(), NETS[name].inputs())
    except fxgrow.TraceError:
        pytest.skip("it has no graph")
    looked, alone = freeze(traced), freeze(traced, other_sizes=False)
    assert looked.groups_by_name.keys() == alone.groups_by_name.keys()
    assert looked.nodes == alone.nodes
    assert {name: one.layouts for name, one in looked.tensors.items()} == {
        name: one.layouts for name, one in alone.tensors.items()
    }


def _filled(kind: type) -> dict[str, Any]:
    """A value of its own for each field of a dataclass."""
    return {field.name: object() for field in dataclasses.fields(kind)}


def test_a_view_of_a_value_keeps_all_that_is_true_of_its_entries() -> None:
    """A new field is to be decided upon."""
    given = _filled(Value) | {"origin": "weight"}
    made = Value(**given).derived(["layout"], [(0,)])
    other = {"layouts", "dims", "invalid", "constant", "infinite", "sums"}
    assert {name for name, value in given.items() if getattr(made, name) is not value} == other


def test_a_prediction_in_terms_of_names_loses_no_field() -> None:
    flow = _filled(Flow) | {"ins": (), "outs": ()}
    given = _filled(Prediction) | {"ins": (), "outs": (), "expected": (), "flow": Flow(**flow)}
    names = object.__new__(Names)
    made = names.prediction(Prediction(**given))
    assert {name for name in given if getattr(made, name) is not given[name]} == {"flow", "unread"}
    assert {name for name in flow if getattr(made.flow, name) is not flow[name]} == set()
