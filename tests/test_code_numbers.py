"""What the code of a model that stays one call makes of sizes: a student runs that code, and nothing guards it."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from tests.check import randomise, relative_error
from tests.test_mixed_numbers import (
    BATCHES,
    HIDDEN,
    SHOWN,
    Images,
    Net,
    Numbers,
    assert_grows_for_every_batch,
    assert_keeps_to_the_size_of_images,
    inputs,
    teacher_with,
)

TABLE = tuple(range(1, 99))
_cached = functools.lru_cache(maxsize=None)(lambda *sizes: 1 + (sizes[0] >= sizes[1]))

DECIDED: dict[str, Numbers] = {
    "less": lambda h, b, w, net: 2 if b < w else 1,
    "equal": lambda h, b, w, net: 2 if b == w else 1,
    "shapes": lambda h, b, w, net: 2 if h.shape == (w, w) else 1,
    "one of a shape": lambda h, b, w, net: 2 if w in h.shape[:1] else 1,
    "the smaller": lambda h, b, w, net: min(b, w),
    "the smaller, sorted": lambda h, b, w, net: sorted((b, w))[0],
    "an attribute": lambda h, b, w, net: 2 if b > net.dim else 1,
    "an attribute of a layer": lambda h, b, w, net: 2 if b > net.a.out_features else 1,
    "the number of rows": lambda h, b, w, net: 2 if len(h) > w else 1,
    "the number of entries": lambda h, b, w, net: 2 if h.numel() > 100 else 1,
    "a loop": lambda h, b, w, net: next(i for i in range(1, 99) if i * w >= b),
    "a place in a table": lambda h, b, w, net: TABLE[max(b - w, 0)],
    "a key": lambda h, b, w, net: {w: 3}.get(b, 1),
    "one of a range": lambda h, b, w, net: 1 + (b in range(w)),
    "hashes": lambda h, b, w, net: 1 + (hash(b) > hash(w)),
    "remembered results": lambda h, b, w, net: _cached(b, w),
    "tuples": lambda h, b, w, net: 1 + ((b, 1) > (w, 0)),
}


@pytest.mark.parametrize("name", [*HIDDEN, *DECIDED])
def test_a_width_that_code_mixes_with_the_batch_stays_and_every_batch_is_exact(name: str) -> None:
    teacher = teacher_with((HIDDEN | DECIDED)[name])
    student = fxgrow.grow(teacher, 1.5, inputs(2), output="module")
    assert student.get_submodule("a").weight.shape == (8, 6)
    assert student.get_submodule("b").weight.shape[0] > 7
    for batch in BATCHES:
        assert relative_error(student(inputs(batch)), teacher(inputs(batch))) < 1e-10


DECIDED_ALONE: dict[str, Numbers] = {
    "products": lambda h, b, w, net: 2 if h.numel() == b * w else 1,
    "a shape": lambda h, b, w, net: 2 if h.shape == (b, w) else 1,
    "equal shapes": lambda h, b, w, net: 2 if h.shape == (h + 1).shape else 1,
    "the batch": lambda h, b, w, net: 2 if b > 7 else 1,
    "a loop over rows": lambda h, b, w, net: sum(range(b)),
    "an answer about the width": lambda h, b, w, net: 2 if w % 4 == 0 else 1,
    "the batch and an answer about the width": lambda h, b, w, net: (2 if w > 4 else 1) * (2 if b > 7 else 1),
}


@pytest.mark.parametrize("name", [*SHOWN, *DECIDED_ALONE])
def test_code_that_does_not_mix_sizes_keeps_no_width_and_no_batch(name: str) -> None:
    assert_grows_for_every_batch(teacher_with((SHOWN | DECIDED_ALONE)[name]), "module")


class Decides(Images):
    """Features that are scaled where an image has more rows than there are channels."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        return self.b(h) * (2 if h.shape[2] > h.shape[1] else 1)


@pytest.mark.parametrize("kind", [Images, Decides])
def test_a_module_keeps_to_the_size_of_images_that_its_code_mixes_with_a_width(kind: type[nn.Module]) -> None:
    assert_keeps_to_the_size_of_images(kind, "module")


class Joined(Net):
    """Two layers side by side, so that the width is a sum of two."""

    def __init__(self, number: Numbers) -> None:
        super().__init__(number)
        self.a2, self.b = nn.Linear(6, 4), nn.Linear(12, 7)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.cat([self.a(x), self.a2(x)], 1).relu()
        return self.c(self.b(h).relu()) * self.number(h, h.shape[0], h.shape[1], self)


def test_each_part_of_a_width_that_code_mixes_with_the_batch_stays() -> None:
    torch.manual_seed(0)
    teacher = randomise(Joined(lambda h, b, w, net: b % w + 1).double()).eval()
    student = fxgrow.grow(teacher, 1.5, inputs(2), output="module")
    shapes = [tuple(student.get_submodule(name).weight.shape) for name in ("a", "a2", "b")]
    assert shapes == [(8, 6), (4, 6), (11, 12)]
    for batch in BATCHES:
        assert relative_error(student(inputs(batch)), teacher(inputs(batch))) < 1e-10


class Switches(Net):
    """Code that a graph would lose: what it does without gradients."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = x * 1.5
        return super().forward(x)


class Catches(Net):
    """Code that a graph would lose: an error that it catches."""

    def forward(self, x: Tensor) -> Tensor:
        try:
            x = x.view(7, 7, 7)
        except RuntimeError:
            x = x * 1.5
        return super().forward(x)


class Keeps(Net):
    """Code that a graph would lose: state."""

    seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return super().forward(x)


class Draws(Net):
    """Code that a graph would freeze: a number that Python draws, which does not show."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0 * random.random())


class Hooked(Net):
    """Code between hooks."""

    def __init__(self, number: Numbers) -> None:
        super().__init__(number)
        self.register_forward_pre_hook(lambda module, args: None)


class Reads(Net):
    """Code that runs on real numbers only, as it decides by those in a tensor."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (2 if float(x.detach().sum()) > -1e9 else 1)


NO_GRAPH = (Switches, Catches, Keeps, Draws, Hooked, Reads)
MIXES = ("remainder", "common divisor", "rows up to the width", "entries of a view", "an attribute")
DECIDES = ("less", "the smaller", "an attribute of a layer", "a loop", "a key")


class Around(nn.Module):
    """A model of which one part stays a call in a graph."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.first, self.part, self.last = nn.Linear(6, 6), part, nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.part(self.first(x).relu()))


@pytest.mark.parametrize("name", [*MIXES, *DECIDES])
@pytest.mark.parametrize("kind", NO_GRAPH)
@pytest.mark.parametrize("output", ["graph", "module", "a part of a graph"])
def test_code_that_is_no_graph_keeps_a_width_that_it_mixes_with_the_batch(
    name: str, kind: type[Net], output: str
) -> None:
    torch.manual_seed(0)
    part = kind((HIDDEN | DECIDED)[name])
    teacher = randomise((Around(part) if " " in output else part).double()).eval()
    where: Any = "module" if output == "module" else "graph"
    student = fxgrow.grow(teacher, 1.5, inputs(2), output=where)
    sizes = {key: tuple(tensor.shape) for key, tensor in student.named_parameters()}
    at = "part." if " " in output else ""
    assert sizes[f"{at}a.weight"][0] == 8
    assert sizes[f"{at}b.weight"][0] > 7
    for batch in BATCHES:
        assert relative_error(student(inputs(batch)), teacher(inputs(batch))) < 1e-10


@pytest.mark.parametrize("kind", NO_GRAPH)
@pytest.mark.parametrize("output", ["graph", "module"])
def test_code_that_is_no_graph_and_mixes_no_sizes_grows(kind: type[Net], output: Literal["graph", "module"]) -> None:
    torch.manual_seed(0)
    teacher = randomise(kind(lambda h, b, w, net: 2 if h.shape == (b, w) and b > 1 else 1).double()).eval()
    student = fxgrow.grow(teacher, {"a": 12}, inputs(2), output=output)
    assert student.get_parameter("a.weight").shape == (12, 6)
    for batch in BATCHES:
        assert relative_error(student(inputs(batch)), teacher(inputs(batch))) < 1e-10


class Leaves(nn.Module):
    """Code that no proxy passes, and that finds the second time what the first left behind."""

    last: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        if self.last is not None and not isinstance(self.last, Tensor):
            raise ValueError("it is no tensor")
        self.last = self.layer(x)
        return self.last * torch.Tensor.dim(self.last)


class Behind(nn.Module):
    """Numbers in code around a part that is called first, and a last statement."""

    def __init__(self, part: nn.Module, number: Numbers, last: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.part, self.net, self.last = part, Net(number), last

    def forward(self, x: Tensor) -> Tensor:
        y = self.net(self.part(x))
        self.last(y)
        return y


LASTS: dict[str, Callable[[Tensor], Any]] = {
    "a proxy passes the last statement": lambda y: y.ndim,
    "no proxy passes the last statement": lambda y: torch.Tensor.dim(y),
}


@pytest.mark.parametrize("part", [nn.Identity, Leaves])
@pytest.mark.parametrize("last", LASTS)
@pytest.mark.parametrize("name", ["remainder", "less"])
@pytest.mark.parametrize("output", ["graph", "module"])
def test_code_is_followed_as_far_as_a_trace_comes(
    part: type[nn.Module], last: str, name: str, output: Literal["graph", "module"]
) -> None:
    torch.manual_seed(0)
    teacher = randomise(Behind(part(), (HIDDEN | DECIDED)[name], LASTS[last]).double()).eval()
    student = fxgrow.grow(teacher, 1.5, inputs(2), output=output)
    assert student.get_submodule("net.a").weight.shape[0] == 8
    assert student.get_submodule("net.b").weight.shape[0] > 7
    for batch in BATCHES:
        with suppress(fxgrow.GrowError):  # a graph refuses other answers
            assert relative_error(student(inputs(batch)), teacher(inputs(batch))) < 1e-10


def test_the_reason_names_the_batch_and_the_line() -> None:
    for number in (HIDDEN["remainder"], DECIDED["less"]):
        plan = fxgrow.plan(fxgrow.widths(teacher_with(number), inputs(2), output="module"), 1.5)
        reasons = {entry.name: entry.reason for entry in plan.skipped}
        assert "mixes it with the size of the batch in a number" in reasons["a"]
        assert "test_" in reasons["a"]


def with_forms(*sizes: Any) -> fxgrow.Forms:
    return fxgrow.Forms(*map(inputs, sizes))


def test_code_is_followed_for_every_form_of_inputs() -> None:
    by_rank: Callable[..., Any] = lambda h, b, w, net: b % w + 1 if b > 4 else 1  # noqa: E731
    teacher = teacher_with(by_rank)
    alone = fxgrow.grow(teacher, {"a": 12}, inputs(2), output="module")
    assert alone.get_submodule("a").weight.shape == (12, 6)
    with suppress(fxgrow.GrowError):
        student = fxgrow.grow(teacher, 1.5, with_forms(2, 5), output="module")
        assert student.get_submodule("a").weight.shape == (8, 6)
        for batch in BATCHES:
            assert relative_error(student(inputs(batch)), teacher(inputs(batch))) < 1e-10
