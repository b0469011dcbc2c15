"""A model that is kept as one call: drawn as the graph of what its run called, with the same figures."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow.capture.ladder import trace_model
from fxgrow.drawing import LEVELS, Source, drawing, source_of
from fxgrow.drawing.folding import total
from fxgrow.drawing.overview import totals
from fxgrow.infer.freeze import freeze

from .nets import NETS
from .thinned import thinned

X = torch.rand(2, 3, 8, 8)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.b(torch.relu(self.norm(self.a(x))))


class Own(nn.Module):
    """A net whose head is called twice, and which returns a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.body = nn.Sequential(*[Residual() for _ in range(3)])
        self.fc = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 5))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.body(self.stem(x))
        return {"mean": self.fc(x.mean((2, 3))), "most": self.fc(x.amax((2, 3)))}


def _opaque(name: str) -> Source:
    net = NETS[name]
    source = Source(freeze(trace_model(net.make(), net.inputs(), output="module")))
    assert source.widths.traced.opaque
    return source


UNREAD = {"auxiliary_head", "unused_parts"}  # eval mode does not read all of their parameters


@thinned("drawn as one call")
@pytest.mark.parametrize("name", sorted(NETS))
def test_the_figures_of_the_boxes_add_up_to_those_of_the_model(name: str) -> None:
    try:
        source = _opaque(name)
    except fxgrow.GrowError:
        return  # it is refused as a module, too
    for at in LEVELS[1:]:
        drawn = drawing(source, at)
        keys = {node.key for node in drawn.nodes}
        assert all({edge.source, edge.target} <= keys for edge in drawn.edges)
        parameters = total(node.parameters for node in drawn.nodes)
        assert parameters == totals(source)[0] or (name in UNREAD and parameters < (totals(source)[0] or ()))
        assert total(node.flops for node in drawn.nodes) == totals(source)[1]


def test_its_modules_and_widths_are_drawn_and_not_one_box() -> None:
    source = source_of(fxgrow.widths(fxgrow.trace(Own(), X, output="module")))
    layers = drawing(source, "layers")
    paths = [node.path for node in layers.nodes if node.kind == "layer"]
    assert paths == ["stem", *[f"body.{i}.{c}" for i in range(3) for c in "ab"], *["fc.0", "fc.2"] * 2]
    assert [node.what for node in layers.nodes if node.kind in ("input", "output")] == [
        "x",
        "output['mean']",
        "output['most']",
    ]
    inside = {node.path: node for node in layers.nodes}
    assert inside["body.0.a"].inside == ("BatchNorm2d body.0.norm", "relu")
    assert inside["body.0.a"].what == "Conv2d 3×3"
    assert inside["body.0.a"].size == (6, 6)
    blocks = drawing(source, "blocks")
    assert [(n.what, n.times) for n in blocks.nodes if n.times > 1] == [("Residual 2 layers", 3)]
    assert sum(edge.skip for edge in layers.edges) == 3


def test_arrows_are_those_of_the_traced_graph() -> None:
    """Between the layers of a network that can be traced as well."""

    def reached(source: Source) -> set[tuple[str, str]]:
        drawn = drawing(source, "layers")
        path = {node.key: node.path if node.kind == "layer" else "" for node in drawn.nodes}
        after: dict[str, set[str]] = {}
        for node in reversed(drawn.nodes):  # which layers each box leads to, past joins
            targets = [edge.target for edge in drawn.edges if edge.source == node.key]
            after[node.key] = {p for t in targets for p in ([path[t]] if path[t] else after[t])}
        return {(path[key], one) for key, found in after.items() if path[key] for one in found}

    for name in ("unet", "inception", "squeeze_and_excitation"):
        net = NETS[name]
        assert reached(_opaque(name)) == reached(source_of(fxgrow.widths(net.make(), net.inputs())))


def test_each_call_of_a_shared_layer_is_a_box() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(self.a(x)) + self.a(y))

    found = fxgrow.widths(fxgrow.trace(Twice(), (torch.rand(2, 4), torch.rand(2, 4)), output="module"))
    boxes = [node for node in drawing(source_of(found), "layers").nodes if node.path == "a"]
    assert len(boxes) == 3
    assert [node.parameters[1] for node in boxes] == [20, 0, 0]
    assert len({node.flops for node in boxes}) == 1


SPEC = [fxgrow.Widen("*", 2.0), fxgrow.Deepen("body.2", blocks=2), fxgrow.Deepen("fc.0"), fxgrow.Kernel("stem", 5)]


@pytest.mark.parametrize("at", LEVELS[1:])
def test_new_entries_of_containers_are_drawn_with_what_they_cost(at: str) -> None:
    found = fxgrow.widths(fxgrow.trace(Own(), X, output="module"))
    plan = fxgrow.plan(found, SPEC)
    source = source_of((found, plan))
    drawn = drawing(source, at)
    new = [node.path for node in drawn.nodes if node.new]
    if at == "layers":
        clones = [f"body.2_deeper{i}{part}" for i in (1, 2) for part in (".a", ".b", "")]
        assert new[:6] == clones
        assert set(new[6:]) == {"fc.0_deeper1"}
    assert new
    cost = plan.cost()
    assert total(node.parameters for node in drawn.nodes) == (cost.parameters.before, cost.parameters.after)
    assert any(node.kernel == ((3, 3), (5, 5)) for node in drawn.nodes)


def test_clones_that_are_spread_over_a_stage_stand_in_their_places() -> None:
    found = fxgrow.widths(fxgrow.trace(Own(), X, output="module"))
    drawn = drawing(source_of((found, fxgrow.plan(found, fxgrow.Deepen("body", blocks=2)))), "layers")
    inside = [path for node in drawn.nodes if (path := node.path).startswith("body") and path.endswith(".a")]
    assert inside == ["body.0.a", "body.1.a", "body.1_deeper1.a", "body.2.a", "body.2_deeper1.a"]


def test_what_is_written_in_place_or_through_a_view_is_read_from_its_writer() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x)
            y.add_(self.c(y))
            y[:, :2].mul_(3.0)
            return self.b(y)

    drawn = drawing(source_of(fxgrow.widths(fxgrow.trace(InPlace(), X, output="module"))), "ops")
    name = {node.key: node.what if node.kind != "layer" else node.path for node in drawn.nodes}
    assert {(name[edge.source], name[edge.target]) for edge in drawn.edges} == {
        ("x", "a"),
        ("a", "c"),
        ("a", "add"),
        ("c", "add"),
        ("add", "slice"),
        ("slice", "mul"),
        ("add", "b"),
        ("mul", "b"),
        ("b", "output"),
    }


class OnlyTrains(nn.Module):
    """Asks for numbers in eval mode, so that only train mode runs on shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.b(self.a(x).relu())
        return y if self.training or y.max() < 1e6 else y * 0


def test_a_model_that_runs_on_shapes_in_train_mode_only_is_drawn_by_that_run() -> None:
    student = fxgrow.grow(OnlyTrains(), 2.0, torch.randn(5, 4))
    nodes = drawing(source_of(student), "layers").nodes
    assert {"a", "b"} <= {node.path for node in nodes}
    assert any(node.kind == "output" for node in nodes)
