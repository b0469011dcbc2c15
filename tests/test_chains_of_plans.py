"""What is told of a chain of plans: each step has names of its own, where the one before numbers containers through."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow import Deepen, Kernel, Widen
from fxgrow.drawing import LEVELS, drawing, source_of
from fxgrow.drawing.source import Source
from fxgrow.drawing.view import finest
from fxgrow.model.tree import Output
from fxgrow.plans.chain_entries import ChainEntries


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 3))


class Block(nn.Module):
    def __init__(self, width: int, inside: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, inside), nn.Linear(inside, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(self.norm(x)).relu())


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layers, self.head = nn.Linear(4, 6), nn.ModuleList([Block(6, 8), Block(6, 10)]), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def images() -> nn.Module:
    conv = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1))
    return nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


FLAT = [Widen("2", 20), Deepen("0", kind="identity", flat=True)]
CHAINS: dict[str, tuple[Callable[[], nn.Module], Output, list[object]]] = {
    "flat, then the new layer": (mlp, "module", [FLAT, {"2": 12}]),
    "flat, then the moved layer": (mlp, "module", [FLAT, {"4": 30}]),
    "flat, then all": (mlp, "module", [Deepen("0", flat=True), 2.0]),
    "widened, then flat": (mlp, "module", [{"0": 12, "2": 20}, Deepen("0", flat=True), {"0": 14, "2": 16}]),
    "flat twice": (mlp, "module", [Deepen("0", flat=True), Deepen("0", flat=True), {"2": 12, "6": 20}]),
    "entries, then all": (mlp, "module", [Deepen("0"), 2.0]),
    "layer, then its width": (mlp, "graph", [[{"0": 16}, Deepen("0")], {"0_deeper*": 24}]),
    "blocks, then the new one": (Blocks, "module", [Deepen("layers.0", blocks=2), {"layers.1.up": 12}]),
    "blocks, then the moved one": (Blocks, "module", [Deepen("layers.0", blocks=3), {"layers.3.up": 12}, {"stem": 9}]),
    "graph blocks, then all": (Blocks, "graph", [Deepen("layers.0", blocks=2), 2.0]),
    "kernels": (images, "module", [Kernel("0.0", 5), {"0.0": 12}, Kernel("0.0", 7)]),
    "flat, then a moved kernel": (images, "module", [Deepen("0.0", flat=True), Kernel("0.5", 5), 2.0]),
}


def _grown(name: str) -> tuple[nn.Module, fxgrow.WidthGraph, fxgrow.Plan, nn.Module]:
    """The teacher, its widths, the chain and the last student."""
    make, output, specs = CHAINS[name]
    torch.manual_seed(0)
    teacher = student = make().eval()
    x = torch.randn(2, 4, 6, 6) if make is images else torch.randn(2, 4)
    plans = []
    for spec in specs:
        plans.append(fxgrow.plan(fxgrow.widths(student, x, output=output), spec))
        student = fxgrow.apply(plans[-1], student, x)
    chain = plans[0]
    for plan in plans[1:]:
        chain = chain.then(plan)
    return teacher, fxgrow.widths(teacher, x, output=output), chain, student


def _numbers(model: nn.Module) -> dict[str, int]:
    return {name: tensor.numel() for name, tensor in model.named_parameters()}


@pytest.mark.parametrize("name", CHAINS)
def test_a_drawing_has_the_parameters_of_teacher_and_student(name: str) -> None:
    teacher, widths, chain, student = _grown(name)
    before, after = _numbers(teacher), _numbers(student)
    names = {chain.student_name(own): own for own in before}
    for source in (source_of(student), source_of(chain)):
        for tensor in source.widths.tensors.keys() & after.keys():
            known = names.get(tensor)
            assert source.parameters(tensor) == (before[known] if known else 0, after[tensor]), tensor
    source = source_of((widths, chain))
    for tensor in source.widths.tensors.keys() & before.keys():
        assert source.parameters(tensor) == (before[tensor], after[chain.student_name(tensor)]), tensor
    for each in (source, source_of(student)):
        for level in LEVELS:
            drawn = finest(drawing(each, level)).nodes
            counted = [sum(node.parameters[i] for node in drawn if node.parameters) for i in (0, 1)]
            assert counted == [sum(before.values()), sum(after.values())], level


@pytest.mark.parametrize("name", CHAINS)
def test_a_summary_without_models_has_the_widths_of_teacher_and_student(name: str) -> None:
    teacher, _, chain, student = _grown(name)
    whole = {row.layer: row for row in fxgrow.summary(chain, teacher=teacher).rows}
    assert whole == {row.layer: row for row in fxgrow.summary(student, teacher=teacher).rows}
    alone = fxgrow.summary(chain)
    for row in alone.rows:
        if row.width != (None, None) and row.layer in whole:
            assert (row.width, row.new) == (whole[row.layer].width, whole[row.layer].new), row.layer
    assert {row.layer for row in whole.values() if row.width[0] != row.width[1] and not row.new} <= {
        row.layer for row in alone.rows
    }
    assert alone.title == fxgrow.summary(student).title
    layers = [row.layer for row in alone.rows if row.new]
    assert len(layers) == len(set(layers))
    modules = dict(student.named_modules())
    assert {*layers} <= modules.keys()


def test_a_numbered_change_merges_no_widths_of_different_layers() -> None:
    _, widths, chain, student = _grown("flat, then the new layer")
    said = {row.layer: (row.width, row.new) for row in fxgrow.summary(chain).rows}
    assert said == {"2": ((None, 12), True), "4": ((10, 20), False), "6": ((3, 3), False)}
    for given, shown in (
        (chain, {"0": (8, 8), "2": (8, 12), "4": (10, 20)}),
        (student, {"0": (8, 8), "2": (8, 12), "4": (10, 20), "6": (3, 3)}),
        ((widths, chain), {"0": (8, 8), "2": (10, 20), "4": (3, 3)}),
    ):
        source = source_of(given)  # type: ignore[arg-type]
        assert {name: size for name, size in _sizes(source).items() if name in shown} == shown


def _sizes(source: Source) -> dict[str, tuple[int, int]]:
    return {name: swatch.size for name, swatch in source.legend.items()}


def test_a_kernel_that_grows_twice_is_shown_from_the_first_size_to_the_last() -> None:
    _, widths, chain, student = _grown("kernels")
    assert ChainEntries(chain).kernels == {"0.0": ((3, 3), (7, 7))}
    for given in (student, (widths, chain)):
        assert source_of(given).larger_kernel("0.0") == ((3, 3), (7, 7))  # type: ignore[arg-type]


def test_what_a_step_leaves_is_told_of_the_layer_that_it_means() -> None:
    torch.manual_seed(0)
    teacher, x = mlp(), torch.randn(2, 4)
    widths = fxgrow.widths(teacher, x, output="module")
    first = fxgrow.plan(widths, Deepen("*", flat=True))
    student = fxgrow.apply(first, teacher, x)
    chain = first.then(fxgrow.plan(fxgrow.widths(student, x, output="module"), {"2": 12}))
    assert [entry.name for entry in chain.skipped] == ["4"], "the last layer, which is 8 in the student"
    reason = chain.skipped[0].reason
    assert [(row.layer, row.why) for row in fxgrow.summary(chain).rows if row.why] == [("8", reason)]
    for given, name in ((chain, "8"), (fxgrow.apply(chain, teacher, x), "8"), ((widths, chain), "4")):
        assert source_of(given).skipped == {name: reason}  # type: ignore[arg-type]


RANDOM = "method 'random_pad' is not function-preserving"


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("number", range(3))
def test_each_report_has_the_notes_of_every_step(output: Output, number: int) -> None:
    torch.manual_seed(0)
    teacher = student = mlp().eval()
    x = torch.randn(2, 4)
    widths = fxgrow.widths(teacher, x, output=output)
    plans = []
    for step in range(3):
        spec = Widen("2", (12, 14, 16)[step], method="random_pad" if step == number else "")
        plans.append(fxgrow.plan(fxgrow.widths(student, x, output=output), spec))
        student = fxgrow.apply(plans[-1], student, x)
    chain = plans[0].then(plans[1]).then(plans[2])
    assert not chain.preserves_function
    told = (
        fxgrow.verify(teacher, student, x),
        fxgrow.summary(chain),
        fxgrow.summary(chain, teacher=widths),
        fxgrow.summary(student),
        fxgrow.summary(student, teacher=teacher),
        *(source_of(given) for given in (chain, student, (widths, chain), (teacher, chain))),  # type: ignore[arg-type]
    )
    for one in told:
        assert sum(RANDOM in note for note in one.notes) == 1, one


def test_verify_tells_what_any_step_left() -> None:
    torch.manual_seed(0)
    teacher, x = mlp().eval(), torch.randn(2, 4)
    student = teacher
    for spec in (Widen("2", 12), Widen("*", 2.0)):
        student = fxgrow.grow(student, spec, x, output="module")
    assert {"input of 0", "4"} <= dict(fxgrow.verify(teacher, student, x).skipped).keys()


def test_the_text_of_a_chain_says_that_a_later_step_is_exact_in_eval_mode_only() -> None:
    torch.manual_seed(0)
    teacher = images().eval()
    x = torch.randn(2, 4, 6, 6)
    first = fxgrow.plan(fxgrow.widths(teacher, x), {"0.0": 12})
    student = fxgrow.apply(first, teacher, x)
    second = fxgrow.plan(fxgrow.widths(student, x), Deepen("0.3", kind="identity", norm="batch"))
    assert "same function in eval mode" in repr(second)
    assert "same function in eval mode" in repr(first.then(second))
