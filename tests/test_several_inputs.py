"""Inputs whose first dimensions are no one batch: nodes beside edges, boxes beside images."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from fxgrow.infer.size_variants import batches, others
from tests.check import relative_error, run

OUTPUTS: tuple[Literal["graph", "module"], ...] = ("graph", "module")
FEATURES, EDGES = 6, 6


class GraphAttention(nn.Module):
    """Attention over the edges of a graph: nodes (N, 6), edges (2, E)."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 2
        self.w, self.out = nn.Linear(FEATURES, 8, bias=False), nn.Linear(8, 3)
        self.left, self.right = nn.Parameter(torch.randn(1, 2, 4)), nn.Parameter(torch.randn(1, 2, 4))

    def forward(self, x: Tensor, edges: Tensor) -> Any:
        h = self.w(x).view(-1, self.heads, 4)
        start, end = edges
        scores = F.leaky_relu((h * self.left).sum(-1)[start] + (h * self.right).sum(-1)[end]).exp()
        total = torch.zeros(x.size(0), self.heads, dtype=x.dtype).index_add(0, end, scores)
        messages = h[start] * (scores / (total[end] + 1e-9))[..., None]
        return self.out(F.elu(torch.zeros_like(h).index_add(0, end, messages)).flatten(1))


class Pooled(nn.Module):
    """The largest message at each node, of all edges that end there: nodes (N, 6), edges (2, E)."""

    def __init__(self, reduce: str) -> None:
        super().__init__()
        self.reduce = reduce
        self.own, self.both, self.out = nn.Linear(FEATURES, 8), nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, edges: Tensor) -> Any:
        h = torch.tanh(self.own(x))
        start, end = edges
        at = end[:, None].expand(-1, h.size(1))
        most = torch.zeros_like(h).scatter_reduce(0, at, h[start], self.reduce, include_self=self.reduce == "sum")
        return self.out(torch.tanh(self.both(torch.cat([h, most], 1))))


class Boxes(nn.Module):
    """The mean of the images' features, added to those of boxes: images (N, 3, H, W), boxes (B, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.images, self.boxes, self.out = nn.Conv2d(3, 8, 3), nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, images: Tensor, boxes: Tensor) -> Any:
        seen = torch.tanh(self.images(images)).mean((0, 2, 3))
        both = torch.tanh(self.boxes(boxes)) + seen.view(1, -1)
        return self.out(both.reshape(len(boxes), -1))


def edges(nodes: int, number: int = EDGES) -> Tensor:
    return torch.randint(nodes, (2, number), generator=torch.Generator().manual_seed(nodes))


def assert_exact_at(teacher: nn.Module, student: nn.Module, others: list[tuple[Tensor, ...]]) -> None:
    for inputs in others:
        assert relative_error(run(teacher, inputs, "eval"), run(student, inputs, "eval")) < 1e-12


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("nodes", [2, 4, 5, 10])
def test_a_graph_of_other_nodes_and_edges_is_taken(nodes: int, output: Literal["graph", "module"]) -> None:
    """A graph has any number of nodes, also where the example has as many as features, or two, as a list of edges."""
    teacher = GraphAttention().double()
    student = fxgrow.grow(teacher, 1.5, (torch.randn(nodes, FEATURES).double(), edges(nodes)), output=output)
    assert student.w.out_features > 8
    more = [(n, e) for n, e in ((9, 6), (8, 12), (16, 1), (3, 40)) if n != nodes]
    assert_exact_at(teacher, student, [(torch.randn(n, FEATURES).double(), edges(n, e)) for n, e in more])


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("reduce", ["sum", "mean", "amax", "amin"])
def test_messages_that_are_reduced_at_nodes_grow(reduce: str, output: Literal["graph", "module"]) -> None:
    teacher = Pooled(reduce).double()
    student = fxgrow.grow(teacher, 1.5, (torch.randn(5, FEATURES).double(), edges(5)), output=output)
    assert (student.own.out_features, student.both.out_features) == (12, 12)
    more = [(torch.randn(n, FEATURES).double(), edges(n, e)) for n, e in ((9, 6), (16, 1), (3, 40))]
    assert_exact_at(teacher, student, more)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("images", [2, 5, 8])
def test_other_boxes_and_other_images_are_taken(images: int, output: Literal["graph", "module"]) -> None:
    teacher = Boxes().double()
    student = fxgrow.grow(
        teacher, 1.5, (torch.randn(images, 3, 8, 8).double(), torch.randn(5, 4).double()), output=output
    )
    assert student.boxes.out_features == 12
    pairs = [(2, 9), (3, 5), (7, 1)]
    others = [(torch.randn(n, 3, 8, 8).double(), torch.randn(b, 4).double()) for n, b in pairs]
    assert_exact_at(teacher, student, others)


def _meta(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def test_the_batch_is_what_most_inputs_have_or_else_the_first() -> None:
    first = [v for v in batches(_meta(x=(5, 7), edges=(2, 6)), ()) if v.kind == "batch"]
    assert {d for v in first for d in v.changed} == {("input 0", 0)}
    most = [v for v in batches(_meta(edges=(2, 6), x=(5, 7), y=(5, 1)), ()) if v.kind == "batch"]
    assert {d for v in most for d in v.changed} == {("input 1", 0), ("input 2", 0)}


def test_every_first_dimension_gets_other_sizes() -> None:
    changed = {v.kind: v.changed for v in batches(_meta(x=(5, 7), edges=(2, 6)), ())}
    assert changed == {"batch": {("input 0", 0)}, "first dimension 2": {("input 1", 0)}}


def test_a_dimension_that_has_to_stay_does_so_where_another_of_its_size_changes() -> None:
    found = [v.changed for v in others(_meta(x=(5, 6), edges=(2, 6)), (), {("input 0", 1)}) if v.kind == "dimension 1"]
    assert found
    assert set(found) == {frozenset({("input 1", 1)})}
