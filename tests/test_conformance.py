"""The check of a student against its plan, by students that are damaged on purpose."""

import operator
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

import fxgrow
from fxgrow.infer.width_graph import WidthGraph
from fxgrow.plans.growth_plan import Plan
from fxgrow.solver.plan_widths import plan_widths
from fxgrow.spec.parse import parse
from fxgrow.validate import refine
from fxgrow.validate.conformance import check_conformance


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3), nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.sub(torch.tanh(self.a(x)), self.b(x))
        return torch.tanh(self.c(torch.cat([y, y[:, 4:]], 1)))


class Several(nn.Module):
    """Returns a structure with a constant and a number."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)
        self.register_buffer("last", torch.zeros(2, 2, 6, 6))

    def forward(self, x: Tensor) -> dict[str, object]:
        y = self.b(self.a(x))
        self.last.copy_(y)
        return {"y": y, "z": torch.tanh(y), "constant": torch.arange(3), "number": 3}


def _output(graph: fx.Graph) -> fx.Node:
    return next(node for node in graph.nodes if node.op == "output")


def _sub(graph: fx.Graph) -> fx.Node:
    return next(node for node in graph.nodes if node.target is torch.sub)


def swapped_operands(graph: fx.Graph) -> None:
    _sub(graph).args = _sub(graph).args[::-1]


def stops_early(graph: fx.Graph) -> None:
    last = _output(graph).args[0]
    assert isinstance(last, fx.Node)
    _output(graph).args = (last.args[0],)
    graph.erase_node(last)


def slice_elsewhere(graph: fx.Graph) -> None:
    node = next(node for node in graph.nodes if node.target is operator.getitem)
    node.args = (node.args[0], (slice(None), slice(7, 15)))


def another_operator(graph: fx.Graph) -> None:
    _sub(graph).target = torch.add


def one_operator_more(graph: fx.Graph) -> None:
    with graph.inserting_before(_output(graph)):
        _output(graph).args = (graph.call_function(torch.tanh, (_output(graph).args[0],)),)


Damage = Callable[[fx.Graph], None]


def _entry(graph: fx.Graph, key: str, value: object) -> None:
    returned = dict(_output(graph).args[0])  # type: ignore[arg-type]
    _output(graph).args = ({**returned, key: value},)  # type: ignore[dict-item]


def another_value(graph: fx.Graph) -> None:
    _entry(graph, "z", dict(_output(graph).args[0])["y"])  # type: ignore[arg-type]


def another_number(graph: fx.Graph) -> None:
    _entry(graph, "number", 4)


def one_entry_more(graph: fx.Graph) -> None:
    _entry(graph, "more", None)


def another_order(graph: fx.Graph) -> None:
    returned = dict(_output(graph).args[0])  # type: ignore[arg-type]
    _output(graph).args = (dict(reversed(returned.items())),)


def a_list_for_a_mapping(graph: fx.Graph) -> None:
    _output(graph).args = (list(dict(_output(graph).args[0]).values()),)  # type: ignore[arg-type]


def another_constant(graph: fx.Graph) -> None:
    with graph.inserting_before(_output(graph)):
        _entry(graph, "constant", graph.call_function(torch.arange, (4,)))


OF_CALLS: list[Damage] = [swapped_operands, stops_early, slice_elsewhere, another_operator, one_operator_more]
OF_RESULTS: list[Damage] = [
    another_value, another_number, one_entry_more, another_order, a_list_for_a_mapping, another_constant,
]  # fmt: skip


def student_of(net: nn.Module) -> tuple[nn.Module, dict[str, fx.Graph], WidthGraph, Plan]:
    found = fxgrow.widths(net, torch.randn(2, 3, 6, 6))
    plan = fxgrow.plan(found, 2.0)
    root, graphs = refine._on_meta(found, plan)
    return root, dict(graphs), found, plan


@pytest.mark.parametrize("net", [Net, Several])
def test_a_student_as_planned_conforms(net: type[nn.Module]) -> None:
    assert not check_conformance(*student_of(net())).mismatches  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("net", "damage"), [*((Net, one) for one in OF_CALLS), *((Several, one) for one in OF_RESULTS)]
)
def test_a_damaged_student_does_not_conform(net: type[nn.Module], damage: Damage) -> None:
    root, graphs, found, plan = student_of(net())
    for graph in graphs.values():
        damage(graph)
        graph.lint()
    assert check_conformance(root, graphs, found, plan).mismatches  # type: ignore[arg-type]


class Compares(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.a(x))
        return self.b(y) if y.shape[1] > y.shape[2] else -self.b(y)


def test_a_width_that_is_compared_with_another_size_keeps_its_answer() -> None:
    teacher = Compares()
    try:
        student = fxgrow.grow(teacher, 2.0, torch.randn(2, 3, 6, 6))
        taller = torch.randn(2, 3, 10, 6)
        result = student(taller)
    except fxgrow.GrowError:
        return
    assert torch.allclose(result, teacher(taller), atol=1e-5)


class Measures(nn.Module):
    """Multiplies by a width, as a plain number, beside layers that do nothing of the kind."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x))
        return self.b(h) * (h.shape[-1] + 1) + self.d(torch.tanh(self.c(x)))


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.other = nn.Linear(5, 6), Measures(), nn.Linear(6, 7)
        self.head = nn.Linear(7, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.stem(x))
        return self.inner(h), self.head(torch.tanh(self.other(h)))


def test_a_mismatch_names_the_width_that_was_measured_and_those_that_grow_in_its_module() -> None:
    found = fxgrow.widths(Around(), torch.randn(2, 5))
    plan = plan_widths(found, parse({"inner.a": 2.0, "stem": 2.0, "other": 2.0}), seed=0, method="split")
    root, graphs = refine._on_meta(found, plan)
    mismatches = check_conformance(root, graphs, found, plan).mismatches
    assert mismatches
    for mismatch in mismatches:
        assert mismatch.groups == ("inner.a",)
        assert mismatch.module == "inner"
        assert set(mismatch.around) == {"inner.a", "stem"}, "inner.c stays, and other is elsewhere"


def test_the_code_of_a_mismatch_inside_a_layer_is_that_of_the_module_around_it() -> None:
    root, graphs, found, plan = student_of(nn.Sequential(nn.Identity(), Net()))
    root.get_submodule("1.a").padding = (1, 1)
    mismatches = check_conformance(root, graphs, found, plan).mismatches  # type: ignore[arg-type]
    assert mismatches
    assert {mismatch.module for mismatch in mismatches} == {"1"}
