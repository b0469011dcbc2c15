"""Each kind of change is drawn and summed up: alone, in chains of two, of a plan, with its model and of the student."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow import Deepen, Inputs, Kernel, Outputs, Widen
from fxgrow.drawing import drawing, source_of
from fxgrow.drawing.overview import entries
from fxgrow.drawing.view import GROWS, finest
from fxgrow.errors import FxgrowError
from fxgrow.model.tree import Output
from fxgrow.solver.io_widths import free_grown, free_io_dims
from tests.test_chains_of_plans import Block
from tests.thinned import thinned


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6))
        self.layers, self.head = nn.ModuleList([Block(6, 8), Block(6, 10)]), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Images(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        norm = nn.BatchNorm2d(6)
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), norm, nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1))
        self.conv, self.head = nn.Conv2d(6, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(self.stem(x).relu()).relu().mean((2, 3)))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], list[Any]]] = {
    "blocks": (
        Blocks,
        (2, 5),
        [
            Widen("layers.*.up", 2.0),
            Widen("*", 2.0),
            Outputs(7),
            Inputs("x", 9),
            Deepen("layers", blocks=2),
            Deepen("layers.0"),
            Deepen("stem.0"),
            Deepen("stem.0", flat=True),
            Deepen("*", kind="residual"),
            [Widen("stem.0", 12), Deepen("stem.0")],
        ],
    ),
    "images": (
        Images,
        (2, 3, 6, 6),
        [
            Widen("conv", 2.0),
            Kernel("stem.0", 5),
            Kernel("conv", 7),
            Inputs("x", 5),
            Deepen("conv"),
            Deepen("stem.0", flat=True, norm="batch", kind="identity"),
            Deepen("stem.*", kind="residual"),
            [Widen("stem.0", 12), Kernel("stem.3", 5), Deepen("stem.0")],
        ],
    ),
}
CASES = [
    (name, output, number)
    for name, (*_, specs) in MODELS.items()
    for output in ("graph", "module")
    for number in range(len(specs))
]


def _padded(x: Tensor, channels: int) -> Tensor:
    return torch.cat([x, torch.randn(x.shape[0], channels - x.shape[1], *x.shape[2:])], 1)


def _grown(model: nn.Module, x: Tensor, output: Output, spec: Any) -> tuple[fxgrow.Plan, nn.Module, Tensor] | None:
    """A plan, its student and this one's inputs; None where the request cannot be served."""
    try:
        plan = fxgrow.plan(fxgrow.widths(model, x, output=output), spec)
    except FxgrowError:
        return None
    return plan, fxgrow.apply(plan, model, x), _padded(x, spec.channels) if isinstance(spec, Inputs) else x


def assert_drawn(
    model: nn.Module, plan: fxgrow.Plan, student: nn.Module, x: Tensor, inputs: Tensor, folder: Path
) -> None:
    """Draw and sum up a plan, with its model and as a student, in all ways."""
    widths = fxgrow.widths(model, x, output=plan.output)
    ways: list[tuple[Any, dict[str, Any]]] = [(plan, {}), ((widths, plan), {}), ((model, plan), {}), (student, {})]
    for given, options in [*ways, (student, {"example_inputs": inputs})]:
        source = source_of(given, **options)
        for level in source.levels:
            assert drawing(source, level).nodes or source.alone
        assert {entry.kind for entry in entries(source, drawing(source, "groups"))} or source.alone
    for given in (plan, (widths, plan)):
        for suffix in (".html", ".txt"):
            assert fxgrow.draw(given, folder / f"a{suffix}").stat().st_size
    for table in (fxgrow.summary(plan), fxgrow.summary(plan, teacher=widths), fxgrow.summary(student)):
        assert str(table)


@pytest.mark.parametrize(("name", "output", "number"), CASES)
def test_each_change_is_drawn(name: str, output: Output, number: int, tmp_path: Path) -> None:
    model, x, specs = _model(name)
    grown = _grown(model, x, output, specs[number])
    if grown is not None:
        assert_drawn(model, grown[0], grown[1], x, grown[2], tmp_path)


@thinned("drawn behind another")
@pytest.mark.parametrize(("name", "output", "number"), CASES)
def test_each_change_is_drawn_behind_another(name: str, output: Output, number: int, tmp_path: Path) -> None:
    model, x, specs = _model(name)
    first = _grown(model, x, output, specs[number])
    for spec in specs if first is not None else ():
        second = _grown(first[1], first[2], output, spec) if first is not None else None
        if first is not None and second is not None:
            assert_drawn(model, first[0].then(second[0]), second[1], x, second[2], tmp_path)


def _model(name: str) -> tuple[nn.Module, Tensor, list[Any]]:
    make, shape, specs = MODELS[name]
    torch.manual_seed(0)
    return make().eval(), torch.randn(shape), specs


def _loops(given: Any) -> dict[str, str]:
    """The labels of the loops for new layers, by width."""
    return {
        edge.source: edge.label for edge in drawing(source_of(given), "groups").edges if edge.label.startswith("new")
    }


def _mlp() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 3)).eval(), torch.randn(
        2, 4
    )


def test_a_new_layer_is_a_loop_where_the_plan_names_its_width_though_not_its_neighbour() -> None:
    teacher, x = _mlp()
    plan = fxgrow.plan(fxgrow.widths(teacher, x, output="module"), [Widen("2", 20), Deepen("0")])
    assert "0.weight" not in {tensor.name for tensor in plan.tensors}
    assert _loops(plan) == {"0": "new: layer"}


def test_a_new_layer_behind_a_new_one_is_a_loop_at_the_width_of_the_model() -> None:
    teacher, x = _mlp()
    widths = fxgrow.widths(teacher, x, output="module")
    student = fxgrow.grow(teacher, Deepen("0", flat=True), x, output="module")
    student = fxgrow.grow(student, Deepen("2", flat=True), x, output="module")
    chain = fxgrow.plan_of(student)
    assert chain is not None
    assert _loops((widths, chain)) == {"0": "new: 4 layers"}


def _with_wider_ends(
    make: Callable[[], nn.Module], shape: tuple[int, ...], output: Output
) -> Iterator[tuple[Any, ...]]:
    """Of plans with more inputs and outputs the teacher, its widths, the plan, the student and inputs of both."""
    torch.manual_seed(0)
    teacher, x = make().eval(), torch.randn(shape)
    widths = fxgrow.widths(teacher, x, output=output)
    more = torch.randn(shape[0], 9, *shape[2:])
    wide: list[Any] = [Inputs("x", 9), Outputs(7), 2.0]
    for first, second in (([wide[0]], None), (wide[:2], None), ([wide[2]], [wide[0]]), ([wide[0]], wide[1:])):
        plan = fxgrow.plan(widths, first)
        student = fxgrow.apply(plan, teacher, x)
        if second is not None:
            given = x if second[0] is wide[0] else more
            plan = plan.then(fxgrow.plan(fxgrow.widths(student, given, output=output), second))
            student = fxgrow.apply(plan, teacher, x)
        yield teacher, widths, plan, student, x, more


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize(("make", "shape"), [(Blocks, (2, 5)), (Images, (2, 3, 6, 6))], ids=["blocks", "images"])
def test_wider_inputs_and_outputs_are_drawn_with_the_figures_of_teacher_and_student(
    make: Callable[[], nn.Module], shape: tuple[int, ...], output: Output
) -> None:
    for teacher, widths, plan, student, x, more in _with_wider_ends(make, shape, output):
        flops = plan.flops
        assert flops is not None
        parameters = [sum(p.numel() for p in model.parameters()) for model in (teacher, student)]
        ways = [((widths, plan), {}), ((teacher, plan), {}), (student, {})]
        for given, options in [*ways, (student, {"example_inputs": x}), (student, {"example_inputs": more})]:
            source = source_of(given, **options)
            assert [sum(one[i] for one in source.flops.values()) for i in (0, 1)] == [flops.before, flops.after]
            drawn = finest(drawing(source, "ops"))
            assert [sum(node.parameters[i] for node in drawn.nodes if node.parameters) for i in (0, 1)] == parameters
            start = next(node.key for node in drawn.nodes if node.kind == "input")
            shapes = {edge.shapes for edge in drawn.edges if edge.source == start}
            old, new = ("×".join(map(str, one.shape[1:])) for one in (x, more))
            assert shapes == {(old, new)}
            (swatch,) = (one for one in source.legend.values() if one.size == (shape[1], 9))
            assert swatch.state == GROWS


@pytest.mark.parametrize("name", MODELS)
def test_ends_that_a_plan_grew_are_as_free_as_those_that_are_asked_for(name: str) -> None:
    model, x, _ = _model(name)
    widths = fxgrow.widths(model, x)
    for spec in ([Inputs("x", 9)], [Outputs(7)], [Inputs("x", 9), Outputs(7)]):
        asked, _ = free_io_dims(widths, spec)
        assert free_grown(widths, fxgrow.plan(widths, spec).io_dims).groups_by_name == asked.groups_by_name
