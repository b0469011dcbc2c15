"""What keeps pictures readable: boxes that are alike are one, shared widths are spines, the level goes by the shape."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow.drawing import Drawing, drawing, opening, source_of
from fxgrow.drawing.alike import ALIKE, _all_but_largest, _refined, alike, merged, ranged
from fxgrow.drawing.registry import drawings
from fxgrow.drawing.shape import shape_of
from fxgrow.drawing.spine import SPOKES, spined
from fxgrow.drawing.view import Edge, Node, finest

from .nets import NETS
from .test_draw import IMAGES, SOME, Small


class Encoder(nn.Module):
    """Residual layers on one width, with inner widths of their own."""

    def __init__(self, inner: list[int]) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 4)
        self.up = nn.ModuleList(nn.Linear(4, width) for width in inner)
        self.down = nn.ModuleList(nn.Linear(width, 4) for width in inner)
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for up, down in zip(self.up, self.down, strict=True):
            x = x + down(torch.relu(up(x)))
        return self.head(x)


def _groups(model: nn.Module, inputs: Any) -> Drawing:
    return drawing(source_of(model, inputs), "groups")


def test_widths_that_are_alike_are_one_box_with_their_number() -> None:
    drawn = _groups(Encoder([8] * 5), torch.zeros(2, 3))
    boxes = [node for node in drawn.nodes if node.times > 1]
    assert [(node.times, node.path, node.size) for node in boxes] == [(5, "up.0…4", (8, 8))]
    assert boxes[0].groups == tuple(f"up.{i}" for i in range(5)) == boxes[0].paths
    whole = finest(drawn)
    assert boxes[0].parameters[1] == sum(node.parameters[1] for node in whole.nodes if node.key.startswith("up."))
    assert {(edge.source, edge.target) for edge in drawn.edges if "up.0" in (edge.source, edge.target)} == {
        ("stem", "up.0"),
        ("up.0", "stem"),
    }


@pytest.mark.parametrize("inner", [[8, 8], [5, 6, 7, 8]])
def test_fewer_than_three_and_what_differs_in_size_stay_apart(inner: list[int]) -> None:
    drawn = _groups(Encoder(inner), torch.zeros(2, 3))
    assert all(node.times == 1 for node in drawn.nodes)
    assert drawn.parts is None


def test_what_grows_and_what_stays_are_not_alike() -> None:
    found = fxgrow.widths(Encoder([8] * 6), torch.zeros(2, 3))
    drawn = drawing(source_of((found, fxgrow.plan(found, {"up.[012]": 2.0}))), "groups")
    assert [(n.path, n.times, n.size) for n in drawn.nodes if n.times > 1] == [
        ("up.0…2", 3, (8, 16)),
        ("up.3…5", 3, (8, 8)),
    ]


def test_a_chain_of_equal_widths_is_one_box() -> None:
    layers = [nn.Linear(3, 6), *[nn.Linear(6, 6) for _ in range(5)], nn.Linear(6, 2)]
    drawn = _groups(nn.Sequential(*layers), torch.zeros(2, 3))
    assert [(n.path, n.times) for n in drawn.nodes if n.times > 1] == [("0…5", 6)]
    assert [(e.source, e.target) for e in drawn.edges] == [("input of 0", "0"), ("0", "6")]


def test_what_leads_to_different_places_is_not_alike() -> None:
    """Inner widths of two stages have other neighbours, though their sizes and names fit."""

    class Stages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 5)
            self.up = nn.ModuleList(nn.Linear(4 if i < 3 else 5, 8) for i in range(6))
            self.down = nn.ModuleList(nn.Linear(8, 4 if i < 3 else 5) for i in range(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.a(x)
            for i, (up, down) in enumerate(zip(self.up, self.down, strict=True)):
                x = (x if i != 3 else self.b(x)) + down(torch.relu(up(x if i != 3 else self.b(x))))
            return x

    drawn = _groups(Stages(), torch.zeros(2, 3))
    assert [(n.path, n.times) for n in drawn.nodes if n.times > 1] == [("up.0…2", 3), ("up.3…5", 3)]


@pytest.mark.parametrize("name", SOME)
def test_merging_keeps_every_width_every_figure_and_every_arrow(name: str) -> None:
    drawn = finest(_groups(NETS[name].make(), NETS[name].inputs()))
    into = alike(drawn.nodes, drawn.edges, 2)
    nodes, edges = merged(drawn.nodes, drawn.edges, into)
    assert sum(node.times for node in nodes) == len(drawn.nodes)
    assert sum(node.parameters[1] for node in nodes) == sum(node.parameters[1] for node in drawn.nodes)
    assert sum(node.flops[1] for node in nodes) == sum(node.flops[1] for node in drawn.nodes)
    root = {node.key: into.get(node.key, node.key) for node in drawn.nodes}
    assert {(e.source, e.target) for e in edges} == {
        (root[e.source], root[e.target])
        for e in drawn.edges
        if root[e.source] != root[e.target] or e.source == e.target
    }


def test_the_classes_do_not_depend_on_the_order_of_boxes_and_arrows() -> None:
    drawn = finest(_groups(Small(blocks=6), IMAGES))
    shuffle = random.Random(0)
    rows = Counter(alike(drawn.nodes, drawn.edges, ALIKE).values())
    for _ in range(5):
        nodes, edges = list(drawn.nodes), list(drawn.edges)
        shuffle.shuffle(nodes)
        shuffle.shuffle(edges)
        assert sorted(Counter(alike(nodes, edges, ALIKE).values()).values()) == sorted(rows.values()) == [6]


def by_definition(looks: dict[str, str], edges: list[Edge]) -> set[frozenset[str]]:
    """The coarsest stable partition, by rounds over all boxes."""
    classes: dict[str, Any] = dict(looks)
    while True:
        finer = {
            key: (
                classes[key],
                frozenset(Counter((classes[e.target], e.label) for e in edges if e.source == key).items()),
                frozenset(Counter((classes[e.source], e.label) for e in edges if e.target == key).items()),
            )
            for key in classes
        }
        numbers = {kind: number for number, kind in enumerate(dict.fromkeys(finer.values()))}
        finer = {key: numbers[kind] for key, kind in finer.items()}
        if len({*finer.values()}) == len({*classes.values()}):
            return by_class(classes)
        classes = finer


def by_class(classes: dict[str, Any]) -> set[frozenset[str]]:
    return {frozenset(key for key in classes if classes[key] == kind) for kind in {*classes.values()}}


@pytest.mark.parametrize("seed", range(60))
def test_the_classes_are_those_of_the_definition(seed: int) -> None:
    draw = random.Random(seed)
    size = draw.randint(1, 14)
    looks = {f"n{i}": draw.choice("aaab") for i in range(size)}
    ends = [(draw.choice(list(looks)), draw.choice(list(looks))) for _ in range(draw.randint(0, 2 * size))]
    edges = [Edge(source, target, label=draw.choice("xxy")) for source, target in ends]
    assert by_class(_refined(looks, edges)) == by_definition(looks, edges)


def test_a_long_chain_takes_time_by_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """From its ends each round over all boxes would tell one box more from the others."""
    looked = []
    counted = lambda whole, parts: looked.append(sum(map(len, parts))) or _all_but_largest(whole, parts)  # noqa: E731
    monkeypatch.setattr("fxgrow.drawing.alike._all_but_largest", counted)
    size = 2000
    looks = {f"n{i}": "a" for i in range(size)}
    classes = _refined(looks, [Edge(f"n{i}", f"n{i + 1}") for i in range(size - 1)])
    assert len({*classes.values()}) == size
    assert sum(looked) < 3 * size * size.bit_length()


@pytest.mark.parametrize(
    ("paths", "name"),
    [
        (["layers.0.fc", "layers.1.fc", "layers.11.fc"], "layers.0…11.fc"),
        (["a.1.0", "a.1.1", "a.2.0"], "a.1…2.0…0"),
        (["a", "b1"], "a … b1"),
    ],
)
def test_one_name_for_many(paths: list[str], name: str) -> None:
    assert ranged(paths) == name


# -- spines -------------------------------------------------------------------------------------------


def test_a_width_that_many_layers_share_is_a_spine() -> None:
    drawn = finest(_groups(Encoder([5, 6, 7, 8, 9, 10, 11, 12]), torch.zeros(2, 3)))
    nodes, edges = spined(drawn.nodes, drawn.edges)
    spine = [node for node in nodes if node.group == "stem"]
    assert [node.segment for node in spine] == [0, 1, 2]
    assert [(e.source, e.target) for e in edges if e.spine] == [
        (one.key, two.key) for one, two in itertools.pairwise(spine)
    ]
    readers = {node.key: sum(e.source == node.key and not e.spine for e in edges) for node in spine}
    assert max(readers.values()) <= 4
    assert not any(edge.back for edge in edges), "a layer reads the box above it and writes to the one below"
    assert sum(not edge.spine for edge in edges) == len(drawn.edges)
    order = {node.key: i for i, node in enumerate(nodes) if not node.segment}
    assert [*order] == [node.key for node in drawn.nodes]
    for number, edge in enumerate(drawn.edges):  # each arrow stays between the same widths
        ends = [node.group for key in (edges[number].source, edges[number].target) for node in nodes if node.key == key]
        assert ends == [node.group for key in (edge.source, edge.target) for node in drawn.nodes if node.key == key]


def test_a_width_that_few_layers_share_is_one_box() -> None:
    hub = Node("hub", "group", "")
    others = [Node(str(i), "group", "") for i in range(SPOKES)]
    edges = [Edge("hub", node.key) for node in others]
    assert spined([hub, *others], edges) == ((hub, *others), tuple(edges))


# -- the level that opens -------------------------------------------------------------------------------


class Hourglass(nn.Module):
    """A chain of widths that all differ: tall at `groups`, and one module at `blocks`."""

    def __init__(self, number: int) -> None:
        super().__init__()
        layers = [nn.Linear(3 + i, 4 + i) for i in range(number)]
        self.body = nn.Sequential(nn.Sequential(*layers[: number // 2]), nn.Sequential(*layers[number // 2 :]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def test_a_tall_picture_does_not_open_where_another_level_reads() -> None:
    assert opening(source_of(Hourglass(8), torch.zeros(2, 3))).level == "groups"
    shown = opening(source_of(Hourglass(90), torch.zeros(2, 3)))
    assert not shape_of(_groups(Hourglass(90), torch.zeros(2, 3))).reads
    assert shown.level == "blocks"


@pytest.mark.parametrize("name", SOME)
def test_what_opens_reads_or_nothing_does(name: str) -> None:
    source = source_of(NETS[name].make(), NETS[name].inputs())
    shown = opening(source)
    shapes = {one.level: shape_of(one) for one in drawings(source, *source.levels) if one.nodes}
    if any(shape.reads for shape in shapes.values()):
        assert shown.level == next(level for level, shape in shapes.items() if shape.reads)
    else:
        assert shapes[shown.level].effort == min(shape.effort for shape in shapes.values())


# -- what a box stands for -----------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["groups", "blocks"])
def test_each_box_knows_what_it_was_folded_from(at: str) -> None:
    drawn = drawing(source_of(Small(blocks=4), IMAGES), at)
    steps = 0
    while drawn.parts is not None:
        steps += 1
        assert drawn.into.keys() == {node.key for node in drawn.parts.nodes}
        assert set(drawn.into.values()) == {node.key for node in drawn.nodes}
        whole = dict.fromkeys(drawn.into.values(), 0)
        for node in drawn.parts.nodes:
            whole[drawn.into[node.key]] += node.parameters[1]
        assert {node.key: node.parameters[1] for node in drawn.nodes} == whole
        drawn = drawn.parts
    assert steps == {"groups": 1, "blocks": 2}[at]
    assert drawn.level == {"groups": "groups", "blocks": "layers"}[at]
