"""Drawings of chains of plans: what later plans make of what earlier ones have made, in its place."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.drawing import LEVELS, Drawing, drawing, source_of
from fxgrow.plans.changes import Repeat

X = torch.randn(2, 4)


class Block(nn.Module):
    """A residual block, whose activation is a module or a function."""

    def __init__(self, *, functional: bool = False) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        self.r = None if functional else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.a(x)
        return x + self.b(torch.relu(inner) if self.r is None else self.r(inner))


class Net(nn.Module):
    """A stem, two such blocks and a classifier."""

    def __init__(self, *, functional: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        self.blocks = nn.Sequential(*[Block(functional=functional) for _ in range(2)])
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(self.stem(x)))


def in_order(drawn: Drawing) -> list[str]:
    """The paths of the layers after growth, from the input on."""
    sources: dict[str, list[str]] = {}
    for edge in drawn.edges:
        if edge.when != "before":
            sources.setdefault(edge.target, []).append(edge.source)

    @functools.cache
    def far(key: str) -> int:
        return 1 + max(map(far, sources.get(key, [])), default=-1)

    layers = [node for node in drawn.nodes if node.kind == "layer" and "ReLU" not in node.what]
    return [node.path for node in sorted(layers, key=lambda node: far(node.key))]


def of_all(drawn: Drawing) -> tuple[int, int]:
    """The parameters and FLOPs after growth."""
    return sum(node.parameters[1] for node in drawn.nodes), sum(node.flops[1] for node in drawn.nodes)


CHAINS: dict[str, tuple[Any, ...]] = {  # "1>": the first clone of blocks.1
    "a layer behind a new layer": (fxgrow.Deepen("stem.0"), fxgrow.Deepen("stem.0_deeper1.*")),
    "a layer beside a new layer": (fxgrow.Deepen("stem.0"), fxgrow.Deepen("stem.0", kind="residual")),
    "a layer in a clone": (fxgrow.Deepen("blocks.1", blocks=2), fxgrow.Deepen("1>.a")),
    "clones of a clone": (fxgrow.Deepen("blocks.1", blocks=2), fxgrow.Deepen("1>", blocks=2)),
    "clones of a block with a new layer": (fxgrow.Deepen("blocks.0.a"), fxgrow.Deepen("blocks.0", blocks=2)),
    "a layer behind clones": (fxgrow.Deepen("blocks.0", blocks=2), fxgrow.Deepen("*.a")),
    "wider clones": (fxgrow.Deepen("blocks.1", blocks=2), {"1>.a": 16}, fxgrow.Deepen("*.a")),
    "wider layers": (fxgrow.Deepen("blocks.0.a", kind="residual"), 2.0, fxgrow.Deepen("*.a"), 1.5),
}


def made(chain: tuple[Any, ...], output: Any, teacher: nn.Module) -> nn.Module:
    """The student of a chain, with the names that clones have in this output."""
    student, clone = teacher, "blocks.1_deeper1" if output == "graph" else "blocks.2"
    for spec in chain:
        if isinstance(spec, fxgrow.Deepen):
            spec = dataclasses.replace(spec, pattern=spec.pattern.replace("1>", clone))
        elif isinstance(spec, dict):
            spec = {name.replace("1>", clone): width for name, width in spec.items()}
        student = fxgrow.grow(student, spec, X, output=output)
    return student


@pytest.mark.parametrize("functional", [False, True], ids=["modules", "functions"])
@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_what_later_plans_add_stands_where_the_student_has_it(
    chain: tuple[Any, ...], output: str, functional: bool
) -> None:
    teacher = Net(functional=functional)
    student = made(chain, output, teacher)
    plan = fxgrow.plan_of(student)
    assert plan is not None
    assert len(plan.steps) == len(chain)
    source = source_of((teacher, plan), X)
    drawn, there = drawing(source, "ops"), drawing(source_of(student, X), "ops")
    assert of_all(drawn) == of_all(there)
    paths = [source.in_student(path) for path in in_order(drawn)]
    own = [max((one for one in paths if f"{path}.".startswith(f"{one}.")), key=len) for path in in_order(there)]
    assert paths == list(dict.fromkeys(own))
    assert len(paths) > 6
    for before, path, after in zip(in_order(drawn), in_order(drawn)[1:], in_order(drawn)[2:], strict=False):
        if before.endswith(".a") and after.endswith(".b"):  # in the block, as it is called in the drawing
            assert path.startswith(before)
    for at in LEVELS:
        assert of_all(drawing(source, at)) == of_all(there), at


class TwoWidths(nn.Module):
    """A residual block, and a sum of another width, whose node has the name that a sum in a clone has in a student."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Linear(4, 8), Block()
        self.between, self.last = nn.Linear(8, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.between(self.first(self.stem(x)))
        return y + self.last(y)


def test_a_later_clone_is_a_loop_at_its_own_width() -> None:
    teacher = TwoWidths()
    first = fxgrow.grow(teacher, fxgrow.Deepen("first", blocks=1), X)
    second = fxgrow.grow(first, fxgrow.Deepen("first_deeper1", blocks=1), X)
    plan = fxgrow.plan_of(second)
    assert plan is not None
    change = plan.steps[1].changes[0]
    assert isinstance(change, Repeat)
    assert change.regions[0].exit in {node.name for node in fxgrow.trace(teacher, X).graph("eval").nodes}
    new = [edge for edge in drawing(source_of((teacher, plan), X), "groups").edges if edge.label.startswith("new")]
    assert [(edge.source, edge.label, edge.tip) for edge in new] == [
        ("stem", "new: 2 blocks", "first_deeper1, first_deeper2")
    ]
