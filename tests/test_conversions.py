"""`int(...)` and `float(...)` of sizes: a graph takes other sizes, and a divisor stays the number that it was."""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import fxgrow
from fxgrow.capture import conversions

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
Forward = Callable[["Two", Tensor], Tensor]


class Two(nn.Module):
    """Two layers and what is made of the first one's result."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 16), nn.Linear(16, 4)
        self.made = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.made(self, x)


def _batch(m: Two, x: Tensor) -> Tensor:
    return m.b(m.a(x).view(int(x.shape[0]), -1).relu())


def _quotient(m: Two, x: Tensor) -> Tensor:
    y = m.a(x)
    return m.b(y.view(int(y.shape[0] * 16 / 4 / 4), -1).relu())


def _root(m: Two, x: Tensor) -> Tensor:
    y = m.a(x)
    n = int(math.sqrt(y.shape[0] * y.shape[0]))
    return m.b(y.reshape(n, -1).relu())


def _half_of_the_batch(m: Two, x: Tensor) -> Tensor:
    y = m.a(x)
    n = int(y.shape[0] * 0.5)
    return m.b(torch.cat([y[:n], y[n:].relu()]))


def _half_of_the_channels(m: Two, x: Tensor) -> Tensor:
    y = m.a(x)
    n = int(y.shape[1] * 0.5)
    u, v = torch.split(y, [n, y.shape[1] - n], 1)
    return m.b(torch.cat([v, u], 1).relu())


def _tested(m: Two, x: Tensor) -> Tensor:
    n = x.shape[0]
    return m.b(m.a(x).view(int(n) if isinstance(n, (int, float)) else -1, m.a.out_features))


def _as_a_float(m: Two, x: Tensor) -> Tensor:
    y = m.a(x)
    return m.b(y.view(int(float(x.shape[0]) / 2) * 2 + int(x.shape[0]) % 2, -1).relu())


OF_OTHER_SIZES = (_batch, _quotient, _root, _half_of_the_batch, _half_of_the_channels, _tested, _as_a_float)


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("forward", OF_OTHER_SIZES)
def test_a_student_takes_other_sizes(forward: Forward, output: Any) -> None:
    teacher = Two(forward).eval()
    student = fxgrow.grow(teacher, 2.0, X, output=output)
    assert student.get_parameter("a.weight").shape == (32, 6)
    for n in (4, 3, 7):
        x = torch.randn(n, 6)
        torch.testing.assert_close(student(x), teacher(x))


@pytest.mark.parametrize("forward", OF_OTHER_SIZES)
def test_so_does_its_student(forward: Forward) -> None:
    teacher = Two(forward).eval()
    student = fxgrow.grow(fxgrow.grow(teacher, 2.0, X), 1.5, X)
    x = torch.randn(7, 6)
    torch.testing.assert_close(student(x), teacher(x))


def _divided(m: Two, x: Tensor) -> Tensor:
    y = m.a(x)
    return m.b(y / float(y.shape[1]))


def _divided_by_a_root(m: Two, x: Tensor) -> Tensor:
    y = m.a(x)
    return m.b(y / math.sqrt(float(y.shape[1])))


def _a_power(m: Two, x: Tensor) -> Tensor:
    y = m.a(x)
    return m.b(y * int(y.shape[1]) ** -0.5)


def _a_factor(m: Two, x: Tensor) -> Tensor:
    y = m.a(x)
    return m.b(y) * max(1, int(y.shape[1] * 0.25))


@pytest.mark.parametrize("forward", [_divided, _divided_by_a_root, _a_power, _a_factor])
def test_a_number_that_is_no_size_stays(forward: Forward) -> None:
    teacher = Two(forward).eval()
    student = fxgrow.grow(teacher, 2.0, X)
    assert student.get_parameter("a.weight").shape == (32, 6)
    for n in (4, 7):
        x = torch.randn(n, 6)
        torch.testing.assert_close(student(x), teacher(x))


def _numbers(m: Two, x: Tensor) -> Tensor:
    return m.b(m.a(x).relu())[:, : int(x.max().item() * 0 + 3)]


def test_numbers_in_tensors_are_no_sizes() -> None:
    teacher = Two(_numbers).eval()
    student = fxgrow.grow(teacher, 2.0, X)
    assert "make" not in str(fxgrow.widths(teacher, X).traced.graph("eval"))
    torch.testing.assert_close(student(X), teacher(X))


def test_the_modules_of_the_code_are_as_they_were() -> None:
    held = dict(globals())
    fxgrow.grow(Two(_quotient).eval(), 2.0, X)
    assert globals().keys() == held.keys()


def _window_reverse(windows: Tensor, size: int, height: int, width: int) -> Tensor:
    """As in the first Swin Transformer, and in what is made of it."""
    n = int(windows.shape[0] / (height * width / size / size))
    x = windows.view(n, height // size, width // size, size, size, -1)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(n, height, width, -1)


class Windows(nn.Module):
    """Layers on windows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up, self.down, self.head = (
            nn.Conv2d(3, 8, 4, 4),
            nn.Linear(8, 12),
            nn.Linear(12, 8),
            nn.Linear(8, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        n, height, width, channels = x.shape
        y = x.view(n, height // 4, 4, width // 4, 4, channels).permute(0, 1, 3, 2, 4, 5)
        y = self.down(self.up(y.reshape(-1, 4, 4, channels)).relu())
        return self.head((x + _window_reverse(y, 4, height, width)).mean((1, 2)))


def test_windows_of_swin_take_other_batches_and_images() -> None:
    teacher = Windows().eval()
    student = fxgrow.grow(teacher, 2.0, torch.randn(2, 3, 32, 32))
    for shape in ((5, 3, 32, 32), (1, 3, 48, 32)):
        x = torch.randn(shape)
        torch.testing.assert_close(student(x), teacher(x))


# -- what may be replaced -------------------------------------------------------------------------------

MODULES = {
    "calls": ("def f(n):\n    return int(n / 2)\n", True),
    "calls and tests": ("def f(n):\n    return int(n) if isinstance(n, (int, float)) else 0\n", True),
    "an annotation": ("def f(n: int) -> int:\n    m: int = int(n)\n    return m\n", True),
    "no call": ("def f(n):\n    return isinstance(n, int)\n", False),
    "a type of tensors": ("def f(x):\n    return x.to(int), int(x)\n", False),
    "another name for it": ("def f(x):\n    made = int\n    return made(x), int(x)\n", False),
    "a comparison of types": ("def f(x):\n    return type(x) is int and int(x)\n", False),
    "a keyword": ("def f(x, g):\n    return g(x, type=int), int(x)\n", False),
    "its own": ("def int(x):\n    return x\ndef f(x):\n    return int(x)\n", False),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_that_uses_the_name_for_more_than_calls_keeps_it(name: str, tmp_path: Path) -> None:
    text, fits = MODULES[name]
    file = tmp_path / "made.py"
    file.write_text(text, encoding="utf-8")
    made = types.ModuleType("made")
    exec(compile(text, str(file), "exec"), vars(made))
    assert conversions._may_be_replaced(made, "int") is fits


def test_code_without_its_source_keeps_the_name() -> None:
    made = types.ModuleType("made")
    exec("def f(n):\n    return int(n)\n", vars(made))
    assert not conversions._may_be_replaced(made, "int")


MADE = (torch.zeros,)  # what makes tensors of numbers


@pytest.mark.parametrize(
    ("make", "fits"),
    [
        (lambda x, n: x.view(n, -1), True),
        (lambda x, n: F.interpolate(x, size=(n, n * 2)), True),
        (lambda x, n: x[:, : n // 2], True),
        (lambda x, n: torch.zeros(n) + x, True),
        (lambda x, n: x / n, False),
        (lambda x, n: x.view(n, -1) * n, False),
        (lambda x, n: x * (n + 1) ** -0.5, False),
        (lambda x, n: F.softmax(x, n), False),
    ],
)
def test_what_is_a_size(make: Callable[[fx.Proxy, fx.Proxy], fx.Proxy], fits: bool) -> None:
    graph = fx.Graph()
    tracer = fx.proxy.GraphAppendingTracer(graph)
    x, n = (fx.Proxy(graph.placeholder(name), tracer) for name in "xn")
    graph.output(make(x, n).node)
    for node in graph.nodes:
        of_tensors = any(isinstance(one.meta[conversions.VALUE], Tensor) for one in node.all_input_nodes)
        node.meta[conversions.VALUE] = torch.zeros(2, 2) if of_tensors or node is x.node or node.target in MADE else 2
    assert conversions._is_size(n.node) is fits
