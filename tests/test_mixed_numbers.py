"""Numbers that mix a size of the inputs with a width, where the example does not show what growth changes."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.infer.mixed_numbers import settle_numbers
from fxgrow.model.tree import Output
from tests.check import randomise, relative_error

Numbers = Callable[[Tensor, int, int, "Net"], Any]
BATCHES = (2, 3, 5, 8, 9, 12, 13, 17, 30)


class Net(nn.Module):
    """Three layers, and a number made of the batch b and of the width w of what lies behind the first."""

    def __init__(self, number: Numbers) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 7), nn.Linear(7, 3)
        self.dim = 8
        self.number = number

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu().view(-1, self.dim)
        return self.c(self.b(h).relu()) * self.number(h, h.shape[0], h.shape[1], self)


def inputs(batch: int) -> Tensor:
    return torch.randn(batch, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(batch))


def teacher_with(number: Numbers) -> Net:
    torch.manual_seed(0)
    return randomise(Net(number).double()).eval()


HIDDEN: dict[str, Numbers] = {
    "remainder": lambda h, b, w, net: b % w,
    "quotient": lambda h, b, w, net: b // w,
    "quotient of the width": lambda h, b, w, net: w // b,
    "both": lambda h, b, w, net: divmod(b, w)[0] + 1,
    "rounded up": lambda h, b, w, net: (b + w - 1) // w,
    "negative, rounded up": lambda h, b, w, net: -(-b // w),
    "common divisor": lambda h, b, w, net: math.gcd(b, w),
    "ceil": lambda h, b, w, net: math.ceil(b / w),
    "round": lambda h, b, w, net: round(b / w),
    "sign": lambda h, b, w, net: math.copysign(1, w - b),
    "bits": lambda h, b, w, net: b & w,
    "root": lambda h, b, w, net: math.isqrt(b * w),
    "of all entries": lambda h, b, w, net: h.numel() // 50,
    "product with what may be 0": lambda h, b, w, net: w * (b // 9) + 1,
    "product of two quotients": lambda h, b, w, net: (w // 4) * (b // 4),
    "entries of no rows": lambda h, b, w, net: h[9:].numel() + 1,
    "difference of products": lambda h, b, w, net: w * b - 2 * w + 1,
    "rows up to the width": lambda h, b, w, net: h[:w].shape[0],
    "rows up to the width behind dots": lambda h, b, w, net: h.T[..., :w].shape[1],
    "parts as long as the width": lambda h, b, w, net: len(h.split(w)),
    "rows of a view": lambda h, b, w, net: h.reshape(math.gcd(b, w), -1).shape[0],
    "entries of a view": lambda h, b, w, net: h.reshape(math.gcd(b, w), -1).sum(0).amax(),
    "parts of a dimension": lambda h, b, w, net: h.view(-1).unflatten(0, (math.gcd(b, w), -1)).sum(0).amax(),
    "an expanded one": lambda h, b, w, net: torch.ones(1).expand(b % w + 1).sum(),
    "expanded activations": lambda h, b, w, net: h[:1, :1].expand(math.gcd(b, w), 1).sum(),
    "a view of ones": lambda h, b, w, net: torch.ones(b * w).view(math.gcd(b, w), -1).sum(0).amax(),
    "a tensor": lambda h, b, w, net: torch.arange(b).clamp(max=w - 1)[-1],
    "a tensor of one entry": lambda h, b, w, net: torch.tensor(b) // w,
    "a sum of a tensor": lambda h, b, w, net: torch.eye(b, w).sum(),
    "an attribute": lambda h, b, w, net: b // net.dim + 1,
    "rows up to an attribute": lambda h, b, w, net: h[: net.dim].shape[0],
    "a shape and the same reversed": lambda h, b, w, net: 1 + (h.shape[::-1] == h.shape),
    "a shape and that of a transposed tensor": lambda h, b, w, net: 1 + (h.shape == h.T.shape),
    "ones, cut": lambda h, b, w, net: torch.ones(b)[:w].sum(),
    "ones for the width, cut": lambda h, b, w, net: torch.ones(3, w)[:, :b].sum(),
    "ones like a shape, cut": lambda h, b, w, net: torch.ones(h.shape)[:w].mean(1).sum(),
    "ones that activations made, cut": lambda h, b, w, net: h.new_ones(b)[:w].sum(),
    "ones that are viewed, cut": lambda h, b, w, net: torch.ones(b * 3).view(-1, 3).relu()[:w].sum(),
    "zeros that are filled, cut": lambda h, b, w, net: torch.zeros(b, b).fill_diagonal_(1)[:w].sum(),
    "a triangle of ones": lambda h, b, w, net: torch.ones(b, b).tril(diagonal=w - 5).sum(),
    "broadcast ones, cut": lambda h, b, w, net: torch.broadcast_tensors(torch.ones(b, 1), torch.ones(3))[0][:w].sum(),
    "parts of ones": lambda h, b, w, net: len(torch.ones(b).split(w)),
    "a parameter for each sample, cut": lambda h, b, w, net: net.c.bias[None].expand(b, -1)[:w].abs().sum(),
    "a repeated parameter, cut": lambda h, b, w, net: net.c.bias[None].repeat(b, 1)[:w].abs().sum(),
    "a list of parameters, cut": lambda h, b, w, net: torch.cat([net.c.bias[None]] * b)[:w].abs().sum(),
    "the number of entries": lambda h, b, w, net: 1 + (torch.numel(h) > 70),
    "bytes": lambda h, b, w, net: 1 + (h.nbytes > 600),
    "bytes of a storage": lambda h, b, w, net: 1 + (h.untyped_storage().nbytes() > 600),
    "strides": lambda h, b, w, net: 1 + (h.t().contiguous().stride(0) >= h.stride(0)),
    "a place in memory": lambda h, b, w, net: 1 + (h[-1].storage_offset() > 70),
    "sizes by keyword": lambda h, b, w, net: 1 + (h.size(dim=0) > h.size(dim=1)),
    "an answer": lambda h, b, w, net: 1 + (b < w),
    "an answer about products": lambda h, b, w, net: 1 + (b * b >= b * w),
}


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("factor", [1.5, 2.0])
def test_a_width_that_a_number_mixes_with_the_batch_stays_and_each_batch_is_exact_or_refused(
    name: str, factor: float
) -> None:
    teacher = teacher_with(HIDDEN[name])
    student = fxgrow.grow(teacher, factor, inputs(2), output="graph")
    assert student.get_submodule("a").weight.shape == (8, 6)
    assert student.get_submodule("b").weight.shape[0] > 7
    for batch in BATCHES:
        with suppress(fxgrow.GrowError):  # where a part of the number is guarded
            assert relative_error(student(inputs(batch)), teacher(inputs(batch))) < 1e-10
    assert relative_error(student(inputs(2)), teacher(inputs(2))) < 1e-10


SHOWN: dict[str, Numbers] = {
    "entries of a row": lambda h, b, w, net: h.reshape(b, h.numel() // b).amax(0).shape[0] * 0 + 1,
    "rows": lambda h, b, w, net: h.numel() // w,
    "one of the ones": lambda h, b, w, net: torch.ones(b)[:1].sum(),
    "columns of ones up to the width": lambda h, b, w, net: torch.ones(b, w)[:, :w].amax(),
    "rows by an attribute": lambda h, b, w, net: h.numel() // net.dim,
    "sizes of a view": lambda h, b, w, net: h.reshape(math.ceil(b / 1) * w // w, w).ndim,
    "ones in a shape": lambda h, b, w, net: torch.ones(1, 1).expand(h.shape).amax(),
    "of the batch alone": lambda h, b, w, net: b % 4 + 1,
    "channels up to a width": lambda h, b, w, net: h[:, :w].ndim,
    "of the width alone": lambda h, b, w, net: (w > 4) + 1,
    "equal products": lambda h, b, w, net: 1 + (h.numel() == b * w),
    "equal shapes": lambda h, b, w, net: 1 + (h.shape == (h + 1).shape),
    "shapes of two widths": lambda h, b, w, net: 1 + (h.shape == net.b(h).shape),
}


def assert_grows_for_every_batch(teacher: nn.Module, output: Output) -> None:
    student = fxgrow.grow(teacher, {"a": 12}, inputs(2), output=output)
    assert student.get_submodule("a").weight.shape == (12, 6)
    for batch in BATCHES:
        assert relative_error(student(inputs(batch)), teacher(inputs(batch))) < 1e-10


@pytest.mark.parametrize("name", SHOWN)
def test_numbers_that_do_not_mix_sizes_keep_no_width_and_no_batch(name: str) -> None:
    assert_grows_for_every_batch(teacher_with(SHOWN[name]), "graph")


class Images(nn.Module):
    """Features that are scaled by how often the channels fit into the rows of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        return self.b(h) * (1 + h.shape[2] // h.shape[1])


def assert_keeps_to_the_size_of_images(kind: type[nn.Module], output: Output) -> None:
    torch.manual_seed(0)
    teacher = randomise(kind().double()).eval()
    images = {n: torch.randn(2, 3, n, 6, dtype=torch.float64) for n in (6, 9)}
    student = fxgrow.grow(teacher, {"a": 12}, images[6], output=output)
    assert relative_error(student(images[6]), teacher(images[6])) < 1e-10
    assert relative_error(student(images[6].repeat(3, 1, 1, 1)), teacher(images[6].repeat(3, 1, 1, 1))) < 1e-10
    with pytest.raises(fxgrow.GrowError, match="9 entries in dimension 2 instead of 6"):
        student(images[9])


def test_a_student_keeps_to_the_size_of_images_that_a_number_mixes_with_a_width() -> None:
    assert_keeps_to_the_size_of_images(Images, "graph")


def test_the_reason_names_the_batch_and_the_line() -> None:
    plan = fxgrow.plan(fxgrow.widths(teacher_with(operator_mod), inputs(2)), 1.5)
    reasons = {entry.name: entry.reason for entry in plan.skipped}
    assert "mixes it with the size of the batch in a number" in reasons["a"]
    assert "test_mixed_numbers.py" in reasons["a"]


def operator_mod(h: Tensor, b: int, w: int, net: Net) -> int:
    return operator.mod(b, w) + 1


@dataclass
class Found:
    y: Any
    n: Any


@dataclass(frozen=True, slots=True)
class InSlots:
    y: Any
    n: Any


@dataclass
class Computes(Found):
    """Mixes its fields where it is made."""

    def __post_init__(self) -> None:
        self.rest = self.y.shape[0] % self.n


@dataclass
class Watches(Found):
    """Mixes its fields where they are set."""

    def __setattr__(self, name: str, value: Any) -> None:
        vars(self)[name] = value
        vars(self)["rest"] = value % 2 if name == "n" else 0


@dataclass
class Inits(Found):
    """Mixes its fields in code of its own."""

    def __init__(self, y: Any, n: Any) -> None:
        self.y, self.n = y, n
        self.rest = y.shape[0] % n


class Returns(nn.Module):
    """Returns an object made of a result and of the batch and the width before it."""

    def __init__(self, made: Callable[[Tensor, int, int], Any]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)
        self.made = made

    def forward(self, x: Tensor) -> Any:
        h = self.a(x).relu()
        return self.made(self.b(h), h.shape[0], h.shape[1])


def reason_of(made: Callable[[Tensor, int, int], Any], output: Output) -> str:
    with pytest.raises(fxgrow.PlanError) as refused:
        fxgrow.grow(Returns(made), {"a": 12}, torch.randn(5, 6), output=output)
    return str(refused.value)


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize(
    "made",
    [
        lambda y, b, w: Found(y, w),
        lambda y, b, w: InSlots(y, w),
        lambda y, b, w: Found(Found(y, b), w),
        lambda y, b, w: {"n": [Found(y, (b, w))]},
        lambda y, b, w: Found(y, b * w),
    ],
)
def test_fields_of_an_object_are_not_mixed_with_one_another(made: Any, output: Output) -> None:
    reason = reason_of(made, output)
    assert "where the teacher's is" in reason
    assert "mixes it" not in reason


@pytest.mark.parametrize("kind", [Computes, Watches, Inits])
def test_an_object_whose_code_mixes_its_fields_keeps_the_width(kind: Any) -> None:
    assert "mixes it with the size of the batch in a number" in reason_of(lambda y, b, w: kind(y, w), "graph")


def test_a_number_that_is_mixed_before_it_is_in_a_field_keeps_the_width() -> None:
    assert "mixes it with the size of the batch in a number" in reason_of(lambda y, b, w: Found(y, b % w), "graph")


class Slots:
    __slots__ = ("n",)


class Behind(Slots):
    __slots__ = ("y",)


class Hidden:
    __slots__ = ("__n", "y")

    def __init__(self) -> None:
        self.y, self.__n = None, 0

    n = property(lambda self: self.__n, lambda self, n: setattr(self, "_Hidden__n", n))


class Mixed(Slots):
    """Has a slot and a `__dict__`."""


@dataclass(slots=True)
class First:
    n: Any


@dataclass(slots=True)
class Second(First):
    y: Any


def _filled(kind: type, y: Any, n: Any) -> Any:
    made = kind()
    made.y, made.n = y, n
    return made


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize(
    "made",
    [
        lambda y, b, w: _filled(Behind, y, w),
        lambda y, b, w: _filled(Hidden, y, w),
        lambda y, b, w: _filled(Mixed, y, w),
        lambda y, b, w: Second(w, y),
        lambda y, b, w: (y, Second(w, 1)),
    ],
)
def test_widths_in_all_slots_of_a_result_stay(made: Any, output: Output) -> None:
    assert "n is 12 where the teacher's is 8" in reason_of(made, output)


def test_a_graph_without_sizes_has_no_such_numbers() -> None:
    widths = fxgrow.widths(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)), torch.randn(2, 6))
    assert widths.findings is not None
    before = len(widths.findings.fixed)
    settle_numbers(widths.traced, widths.findings)
    assert len(widths.findings.fixed) == before
