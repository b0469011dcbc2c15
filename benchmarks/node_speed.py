"""Milliseconds per node on generated nets of 300 to 10,000 nodes.

`grow_speed.py --only nodes looks` prints them.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import fxgrow
from benchmarks.page import Table
from benchmarks.speed_clock import Clock


class Chain(nn.Module):
    """A sequence of convolutions, batch norms and activations of two channels."""

    def __init__(self, nodes: int) -> None:
        super().__init__()
        kinds = (lambda: nn.Conv2d(2, 2, 1), lambda: nn.BatchNorm2d(2), nn.ReLU)
        self.body = nn.Sequential(*(kinds[i % 3]() for i in range(nodes - 3)))
        self.head = nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class Residual(nn.Module):
    """Blocks of five nodes whose results are added up, so that one width runs through all of them."""

    def __init__(self, nodes: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 1))
            for _ in range((nodes - 4) // 5)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class Dense(nn.Module):
    """Blocks of six convolutions, each of which sees all before it, and a transition after each block."""

    def __init__(self, nodes: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1)
        self.blocks = nn.ModuleList(
            nn.ModuleList([*(nn.Conv2d(2 + i, 1, 1) for i in range(6)), nn.Conv2d(8, 2, 1)])
            for _ in range((nodes - 4) // 19)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(torch.cat([x, x[:, :1]], 1))
        for *layers, transition in self.blocks:
            for layer in layers:
                x = torch.cat([x, layer(x).relu()], 1)
            x = transition(x)
        return self.head(x)


def nodes(sizes: Sequence[int], repeats: int) -> Table:
    """Milliseconds per node by the size of the graph."""
    head = ("net", "nodes", "trace", "widths", "plan", "apply", "in all", "/ smallest")
    table = Table("Milliseconds per node", head)
    for kind, channels in ((Chain, 2), (Residual, 2), (Dense, 2)):
        smallest = None
        for size in sizes:
            model, x = kind(size).eval(), torch.randn(1, channels, 2, 2)
            clock = Clock()
            for _ in range(repeats if size < 3000 else 1):
                traced = clock("trace", lambda model=model, x=x: fxgrow.trace(model, x))
                found = clock("widths", lambda traced=traced: fxgrow.widths(traced))
                plan = clock("plan", lambda found=found: fxgrow.plan(found, 2.0))
                clock("apply", lambda plan=plan, model=model: fxgrow.apply(plan, model))
            number = len(traced.graph("eval").nodes)
            per_node = [clock.median(stage) / number * 1e3 for stage in ("trace", "widths", "plan", "apply")]
            smallest = smallest or sum(per_node)
            cells = [f"{ms:.2f}" for ms in (*per_node, sum(per_node))]
            table.rows.append((kind.__name__.lower(), str(number), *cells, f"{sum(per_node) / smallest:.2f}"))
            print(" | ".join(table.rows[-1]), file=sys.stderr, flush=True)
    table.remarks.append("Two channels and images of 2 x 2, so that neither weights nor activations matter.")
    return table


class Linears(nn.Module):
    """Linear layers and activations, which take inputs of any number of dimensions, so that these are tried as well."""

    def __init__(self, nodes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*((nn.ReLU() if i % 2 else nn.Linear(2, 2)) for i in range(nodes - 3)))
        self.head = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


LOOKS = (
    "apply", "str(plan)", "to_json", "from_json", "why", "why(*)", "summary", "of student", "verify", "forwards",
    "draw",
)  # fmt: skip


def looks(sizes: Sequence[int]) -> Table:
    """Milliseconds per node of what shows a plan and checks a student, beside `apply`."""
    table = Table("Milliseconds per node of what looks at a plan or a student", ("net", "nodes", *LOOKS))
    for kind, shape in ((Residual, (1, 2, 2, 2)), (Linears, (1, 2))):
        first: list[float] = []
        for size in sizes:
            number, per_node = _looks(kind(size).eval(), torch.randn(shape))
            first = first or per_node
            table.rows.append((kind.__name__.lower(), str(number), *(f"{ms:.3f}" for ms in per_node)))
            print(" | ".join(table.rows[-1]), file=sys.stderr, flush=True)
        ratios = (f"{b / a:.2f}" for a, b in zip(first, per_node, strict=True))
        table.rows.append((f"{kind.__name__.lower()}: last / first", "", *ratios))
    table.remarks.append(
        "Once each. Of student: `summary(student, teacher=model)`. Forwards: of teacher and student in both modes, as "
        "`verify` runs them."
    )
    return table


def _looks(model: nn.Module, x: Tensor) -> tuple[int, list[float]]:
    """The nodes of a model, and the milliseconds per node of each of LOOKS."""
    clock = Clock()
    found = fxgrow.widths(model, x)
    plan = fxgrow.plan(found, 2.0)
    name = plan.grown_widths[-1].name
    student = clock("apply", lambda: fxgrow.apply(plan, model))
    clock("str(plan)", lambda: str(plan))
    text = clock("to_json", plan.to_json)
    clock("from_json", lambda: fxgrow.Plan.from_json(text))
    clock("why", lambda: found.why(name))
    clock("why(*)", lambda: found.why("*"))
    clock("summary", lambda: fxgrow.summary(model, x))
    clock("of student", lambda: fxgrow.summary(student, x, teacher=model))
    clock("verify", lambda: fxgrow.verify(model, student, x))
    clock("forwards", lambda: _forwards(model, student, x))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.html"
        clock("draw", lambda: fxgrow.draw(model, path, example_inputs=x))
    number = len(found.traced.graph("eval").nodes)
    return number, [clock.median(look) / number * 1e3 for look in LOOKS]


def _forwards(model: nn.Module, student: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        for mode in (True, False):
            model.train(mode)(x)
            student.train(mode)(x)
