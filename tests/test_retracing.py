"""Other tools of torch.fx trace a student again: its guards go into their graphs and refuse as before."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from fxgrow.capture.proxy import ASKED, CONVERTED
from fxgrow.model.fixed_sizes import check_sizes

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Asks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.n, self.b = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Any:
        h = self.n(self.a(x))
        if h.shape[2] > 4:
            h = F.avg_pool2d(h, 2)
        for _ in range(h.shape[3] // 2):
            h = h + 1
        return self.b(h.mean((2, 3)))


class TakesADict(Asks):
    def forward(self, batch: dict[str, Tensor]) -> Any:  # type: ignore[override]
        return super().forward(batch["y" if "y" in batch else "x"])


class Unpacks(Asks):
    def forward(self, x: Tensor) -> Any:
        return super().forward(torch.cat(list(x.split(1, 0))))


class HasADefault(Asks):
    def forward(self, x: Tensor, shift: Tensor = X[0, 0]) -> Any:
        return super().forward(x + shift)


class ReadsNumbers(Asks):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x) if float(x.detach().sum()) > -1e9 else x


class AsksForAnOddSize(Asks):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x + 1 if x.shape[2] % 2 else x)


class CountsInWholes(Asks):
    def forward(self, x: Tensor) -> Any:
        for _ in range(int(x.shape[2] / 4)):
            x = x + 1
        return super().forward(x)


class KeepsToSizes(Asks):
    def forward(self, x: Tensor) -> Any:
        h = self.n(self.a(x))
        return self.b((h * (1 + h.shape[2] // (2 * h.shape[1]))).mean((2, 3)))


def _extracted(student: nn.Module) -> Any:
    import_torchvision()
    extraction: Any = importlib.import_module("torchvision.models.feature_extraction")
    graph: fx.Graph = fx.symbolic_trace(student).graph
    (output,) = (node for node in graph.nodes if node.op == "output")
    name = output.all_input_nodes[0].name
    extractor = extraction.create_feature_extractor(student, [name])
    return lambda x: extractor(x)[name]


def _fused(student: nn.Module) -> Any:
    with warnings.catch_warnings():  # of what torch imports there
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch.fx.experimental.optimization import fuse
    return fuse(student)


MODELS = [
    Asks, TakesADict, Unpacks, HasADefault, ReadsNumbers, AsksForAnOddSize, CountsInWholes, KeepsToSizes
]  # fmt: skip
TOOLS: dict[str, Callable[[nn.Module], Any]] = {
    "symbolic_trace": fx.symbolic_trace,
    "fuse": _fused,
    "extract": _extracted,
}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("model", MODELS, ids=lambda kind: kind.__name__)
def test_a_student_is_traced_again(model: Any, tool: str) -> None:
    if tool == "extract" and importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    if tool == "extract" and model is ReadsNumbers:
        pytest.skip("torchvision's tracer follows no module that is not registered")
    teacher = model().double().eval()
    x: Any = {"x": X} if model is TakesADict else X
    example = (x,) if isinstance(x, dict) else x
    again = TOOLS[tool](fxgrow.grow(teacher, 2.0, example).eval())
    torch.testing.assert_close(again(x), teacher(x), rtol=1e-9, atol=1e-9)


def test_the_guards_of_a_student_refuse_after_it_is_traced_again() -> None:
    again = fx.symbolic_trace(fxgrow.grow(Asks().double().eval(), 2.0, X))
    with pytest.raises(fxgrow.GrowError, match="another path"):
        again(X[:, :, :4, :4])


def test_sizes_that_a_student_keeps_to_are_kept_after_it_is_traced_again() -> None:
    student = fxgrow.grow(KeepsToSizes().double().eval(), {"a": 12}, X)
    large = torch.randn(2, 3, 20, 8).double()
    for model in (student, fx.symbolic_trace(student)):
        with pytest.raises(fxgrow.GrowError, match="x has 20 entries in dimension 2 instead of 8"):
            model(large)


@pytest.mark.parametrize("function", [*ASKED, *CONVERTED.values(), check_sizes])
def test_what_graphs_call_to_ask_and_to_refuse_is_recorded(function: Any) -> None:
    number = len(inspect.signature(function).parameters)
    graph = fx.symbolic_trace(lambda x: function(*[x] * number)).graph
    assert [node.target for node in graph.nodes if node.op == "call_function"] == [function]
