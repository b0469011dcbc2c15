"""Code that cuts the batch at a width, in each spelling: at any batch a student gives the result, or refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import fxgrow
from fxgrow.infer.cuts import SPLITS, cuts

BATCHES = (4, 8, 10, 12, 13, 20, 26, 30)
Cutting = Callable[["Cuts", Tensor], Tensor]


class Cuts(nn.Module):
    """Two layers, and what is made of the rows (N, 8) between them."""

    def __init__(self, cut: Cutting) -> None:
        super().__init__()
        self.fc, self.out, self.width, self.cut = nn.Linear(4, 8), nn.Linear(8, 3), 8, cut

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cut(self, self.fc(x)))


def _viewed(cut: Cutting) -> Cutting:
    return lambda m, h: cut(m, h.view(-1, m.width))


AT_SIZES: dict[str, Cutting] = {
    "chunk": lambda m, h: h.chunk(h.shape[1], 0)[0],
    "chunk by name": lambda m, h: torch.chunk(chunks=h.shape[1], input=h)[0],
    "unsafe_chunk": lambda m, h: torch.unsafe_chunk(h, h.shape[1])[0],
    "split": lambda m, h: h.split(h.shape[1])[0],
    "split by name": lambda m, h: torch.split(h, split_size_or_sections=h.shape[1])[0],
    "unsafe_split": lambda m, h: h.unsafe_split(h.shape[1], 0)[0],
    "tensor_split": lambda m, h: h.tensor_split(h.shape[1])[0],
    "tensor_split at places": lambda m, h: h.tensor_split([h.shape[1]])[0],
    "vsplit": lambda m, h: h.vsplit([h.shape[1]])[0],
    "hsplit": lambda m, h: h.t().hsplit([h.shape[1]])[0].t(),
    "slice": lambda m, h: h[: h.shape[1]],
    "slice behind": lambda m, h: h + h[h.shape[1] :].sum(0),
    "slice by steps": lambda m, h: h[:: h.shape[1]],
    "negative slice": lambda m, h: h[-h.shape[1] :],
    "ones": lambda m, h: h * torch.ones(len(h)).chunk(h.shape[1])[0].sum(),
    "narrow": lambda m, h: h.narrow(0, 0, min(h.shape[1], len(h))),
    "unfold": lambda m, h: F.pad(h, (0, 0, 0, 8)).unfold(0, h.shape[1], h.shape[1]).mean(-1),
    "topk": lambda m, h: h.topk(min(h.shape[1], len(h)), dim=0)[0],
}
AT_ATTRIBUTES: dict[str, Cutting] = {
    "chunk": _viewed(lambda m, h: h.chunk(m.width)[0]),
    "split": _viewed(lambda m, h: h.split(m.width)[0]),
    "split by name": _viewed(lambda m, h: torch.split(h, split_size_or_sections=m.width)[0]),
    "tensor_split": _viewed(lambda m, h: h.tensor_split(m.width)[0]),
    "tensor_split at places": _viewed(lambda m, h: h.tensor_split([m.width])[0]),
    "slice": _viewed(lambda m, h: h[: m.width]),
    "slice behind": _viewed(lambda m, h: h + h[m.width :].sum(0)),
    "negative slice": _viewed(lambda m, h: h[-m.width :]),
    "ones": _viewed(lambda m, h: h * torch.ones(len(h))[: m.width].sum()),
    "a layer's": lambda m, h: h.split(m.fc.out_features)[0],
}


def assert_exact_or_refused(cut: Cutting, output: Any, asked: Any = None) -> None:
    teacher = Cuts(cut).double()
    try:
        student = fxgrow.grow(teacher, asked or {"fc": 12}, torch.randn(4, 4).double(), output=output)
    except fxgrow.GrowError:
        return
    for n in BATCHES:
        x = torch.randn(n, 4).double()
        try:
            given = student(x)
        except fxgrow.GrowError:
            continue
        torch.testing.assert_close(given, teacher(x))


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("name", AT_SIZES)
def test_a_batch_that_is_cut_at_a_width(name: str, output: Any) -> None:
    assert_exact_or_refused(AT_SIZES[name], output)


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("name", AT_ATTRIBUTES)
def test_a_batch_that_is_cut_at_an_attribute_that_is_a_width(name: str, output: Any) -> None:
    assert_exact_or_refused(AT_ATTRIBUTES[name], output)


def test_a_part_that_is_longer_than_the_tensor_says_of_no_size_what_it_is() -> None:
    found = fxgrow.widths(Cuts(AT_ATTRIBUTES["split"]), torch.randn(4, 4))
    (stated,) = [one.layouts for one in found.attributes if (one.module, one.name) == ("", "width")]
    assert stated == ((("fc",),),)  # not the batch, of which the part takes all


def test_every_function_of_torch_that_splits_is_known() -> None:
    held = {name for owner in (torch, torch.Tensor, torch.functional, F) for name in dir(owner)}
    assert {name for name in held if ("split" in name or "chunk" in name) and not name.startswith("_")} == SPLITS.keys()


def _call(make: Callable[[fx.Proxy], Any]) -> fx.Node:
    graph = fx.Graph()
    x = fx.Proxy(graph.placeholder("x"), fx.proxy.GraphAppendingTracer(graph))
    return make(x).node


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda x: x[:5], [(0, {"start": None, "stop": 5})]),
        (lambda x: x[..., 2:], [(2, {"start": 2, "stop": None})]),
        (lambda x: x[0, None, :, :3], [(1, {"start": None, "stop": None}), (2, {"start": None, "stop": 3})]),
        (lambda x: x.chunk(2, -1), [(-1, {1: 2})]),
        (lambda x: x.split([2, 3], dim=1), [(1, {0: 2, 1: 3})]),
        (lambda x: x.hsplit(4), [(1, {1: 4})]),
        (lambda x: x.dsplit(4), [(2, {1: 4})]),
        (lambda x: torch.split(x, split_size_or_sections=2, dim=2), [(2, {1: 2})]),
        (lambda x: torch.chunk(chunks=3, input=x), [(0, {"chunks": 3})]),
        (lambda x: x + 5, []),
    ],
)
def test_where_a_call_cuts(make: Any, expected: Any) -> None:
    found = list(cuts(_call(make), 3))
    assert [(dim, {path[-1]: number for path, number in numbers}) for dim, numbers in found] == expected
    assert all(dim in range(-3, 3) for dim, _ in found)
