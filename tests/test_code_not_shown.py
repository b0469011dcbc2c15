"""Numbers in code that stays a call, where a trace of it meets what takes no proxies: they are seen all the same."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn

import fxgrow
from fxgrow.capture import symbolic
from fxgrow.capture.code_graphs import graphs_of_code

# What torch says of a checkpoint that enters again, where no gradients are recorded.
pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
Output = Literal["graph", "module"]
X = torch.linspace(-2, 2, 2 * 3 * 36).sin().view(2, 3, 6, 6)


class Doubling(torch.autograd.Function):
    """States its context in forward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return 2 * gradient


class Tripling(torch.autograd.Function):
    """States its context apart."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return 3 * x

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return 3 * gradient


class Named(Tensor):
    """A tensor under another name."""


def plain_tensors_only(x: Tensor) -> Tensor:
    if type(x) not in (Tensor, nn.Parameter):
        raise ValueError
    return x.tanh()


SHOWN: dict[str, Callable[[Tensor], Any]] = {
    "checkpoint": lambda x: torch.utils.checkpoint.checkpoint(torch.tanh, x, use_reentrant=False),
    "checkpoint that enters again": lambda x: torch.utils.checkpoint.checkpoint(torch.tanh, x, use_reentrant=True),
    "Function": lambda x: Doubling.apply(x),
    "Function with its context apart": lambda x: Tripling.apply(x),
}
NOT_SHOWN: dict[str, Callable[[Tensor], Any]] = {
    "vmap": lambda x: torch.vmap(torch.tanh)(x),
    "asks for the very type": plain_tensors_only,
    "subclass": lambda x: x.as_subclass(Named).tanh().as_subclass(Tensor),
}
MIXES: dict[str, Callable[[int, int], float]] = {
    "remainder": lambda batch, width: batch % width + 1,
    "remainder of thrice": lambda batch, width: batch % (3 * width) + 1,
    "divisor": math.gcd,
    "quotient": lambda batch, width: batch // width + 1,
    "smaller": min,
    "path": lambda batch, width: 1 if batch < width else 2,
}


class Net(nn.Module):
    """Its code stays a call, and scales by a number of the batch and a width."""

    def __init__(self, odd: Callable[[Tensor], Any], mix: Callable[[int, int], float]) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 3)
        self.odd, self.mix = odd, mix

    def forward(self, x: Tensor) -> Tensor:
        x = self.odd(self.first(x))
        return self.head((x * self.mix(x.shape[0], x.shape[1])).mean((2, 3)))


def gradient(result: Tensor, x: Tensor) -> Tensor:
    x.grad = None
    result.sum().backward()
    assert x.grad is not None
    return x.grad.clone()


def exact_or_refused(teacher: nn.Module, student: nn.Module) -> list[bool]:
    """For many batches, whether the student takes them; where it does, it has to be exact."""
    taken = []
    for batch in (1, 2, 3, 5, 8, 9, 12, 13, 16, 17, 24, 30):
        x = X[:1].expand(batch, -1, -1, -1).clone().requires_grad_()
        try:
            ours = student(x)
        except fxgrow.GrowError:
            taken.append(False)
            continue
        theirs = teacher(x)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(gradient(ours, x), gradient(theirs, x), rtol=1e-4, atol=1e-4)
        taken.append(True)
    return taken


def assert_seen(teacher: nn.Module, output: Output) -> None:
    """The only width stays, or the student does not take every batch; those that it takes are exact."""
    try:
        student = fxgrow.grow(teacher, 1.5, X, output=output)
    except fxgrow.PlanError:
        return
    assert not all(exact_or_refused(teacher, student))


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("odd", SHOWN | NOT_SHOWN)
@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_number_that_mixes_the_batch_with_a_width_is_seen(output: Output, odd: str, mix: str) -> None:
    torch.manual_seed(0)
    teacher = Net((SHOWN | NOT_SHOWN)[odd], MIXES[mix]).eval()
    assert_seen(teacher, output)


@pytest.mark.parametrize("odd", SHOWN | NOT_SHOWN)
@pytest.mark.parametrize("output", ["graph", "module"])
def test_without_such_a_number_the_width_grows(output: Output, odd: str) -> None:
    torch.manual_seed(0)
    teacher = Net((SHOWN | NOT_SHOWN)[odd], lambda batch, width: 2).eval()
    student = fxgrow.grow(teacher, 1.5, X, output=output)
    assert student.get_parameter("first.weight").shape[0] == 12
    assert all(exact_or_refused(teacher, student))


@pytest.mark.parametrize("odd", SHOWN)
def test_code_for_the_backward_alone_does_not_end_the_graphs_of_code(odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it would, other sizes show the numbers, as where code cannot be traced at all."""
    torch.manual_seed(0)
    teacher = Net(SHOWN[odd], MIXES["remainder"]).eval()
    traced = fxgrow.trace(teacher, X, output="module")
    assert graphs_of_code(traced)[1]
    monkeypatch.setattr(symbolic, "lenient_autograd", lambda tracer: ())
    assert not graphs_of_code(traced)[1]
    assert not all(exact_or_refused(teacher, fxgrow.grow(teacher, 1.5, X, output="module")))


@pytest.mark.parametrize("odd", NOT_SHOWN)
def test_graphs_that_do_not_show_all_code_say_so(odd: str) -> None:
    traced = fxgrow.trace(Net(NOT_SHOWN[odd], MIXES["remainder"]).eval(), X, output="module")
    assert not graphs_of_code(traced)[1]


class ScaledGradient(torch.autograd.Function):
    """Its backward alone makes a number of the batch and a width."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mix: Callable[[int, int], float]) -> Tensor:
        ctx.mix = mix
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient * ctx.mix(gradient.shape[0], gradient.shape[1]), None


class ScaledOnce(ScaledGradient):
    """Asks for `requires_grad`, which a trace refuses to tell."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        times = ctx.mix(gradient.shape[0], gradient.shape[1])
        return (gradient.detach() if gradient.requires_grad else gradient) * times, None


@pytest.mark.parametrize("function", [ScaledGradient, ScaledOnce])
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_number_that_only_a_backward_makes_is_seen(output: Output, mix: str, function: Any) -> None:
    torch.manual_seed(0)
    teacher = Net(lambda x: function.apply(x, MIXES[mix]), lambda batch, width: 2).eval()
    assert_seen(teacher, output)


class Cache:
    """No container of torch's."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []
        self.number: float = 0

    def update(self, x: Tensor, number: float) -> None:
        self.seen.append(x)
        self.number += number


class Caching(Net):
    """Returns the number in a cache, beside what it computes."""

    def forward(self, x: Tensor) -> Any:
        cache = Cache()
        wide = self.odd(self.first(x))
        cache.update(x, self.mix(wide.shape[0], wide.shape[1]))
        return self.head(wide.mean((2, 3))), cache


@pytest.mark.parametrize("mix", MIXES)
def test_a_number_that_only_an_object_of_the_result_holds_is_seen(mix: str) -> None:
    torch.manual_seed(0)
    teacher = Caching(torch.tanh, MIXES[mix]).eval()
    try:
        student = fxgrow.grow(teacher, 1.5, X, output="module")
    except fxgrow.PlanError:  # the only width stays
        return
    for batch in (8, 12, 16, 24):
        x = X[:1].expand(batch, -1, -1, -1)
        with suppress(fxgrow.GrowError):
            assert student(x)[1].number == teacher(x)[1].number


class Spelled(Net):
    """Spells sizes so that the number which Python sees is a plain one, and scales by them or returns them."""

    def __init__(self, spell: Callable[[int], int], mix: Callable[[int, int], float], *, returns: bool) -> None:
        super().__init__(torch.tanh, mix)
        self.spell, self.returns = spell, returns

    def forward(self, x: Tensor) -> Any:
        x = self.odd(self.first(x))
        number = self.mix(self.spell(x.shape[0]), self.spell(x.shape[1]))
        x = x.mean((2, 3))
        return (self.head(x), number) if self.returns else self.head(x * number)


SPELLINGS: dict[str, Callable[[int], int]] = {
    "format": lambda size: int(f"{size}"),
    "a constant's size": lambda size: int(torch.arange(size).shape[0]),
    "a constant's length": lambda size: len(torch.zeros(size, 2)),
    "a range": lambda size: torch.linspace(0, 1, size).shape[0],
    "a joint constant": lambda size: torch.cat([torch.zeros(size), torch.zeros(1)]).shape[0] - 1,
    "parts of a constant": lambda size: len(torch.zeros(size).unbind()),
    "a list of a constant": lambda size: len(torch.zeros(size).tolist()),
    "dimensions": lambda size: torch.zeros([1] * size).ndim,
    "bits": lambda size: int(f"{size:b}", 2),
    "percent": lambda size: int("%d" % size),  # noqa: UP031
}


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("returns", [True, False])
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_number_is_seen_however_a_size_is_spelled(output: Output, spelling: str, returns: bool, mix: str) -> None:
    torch.manual_seed(0)
    teacher = Spelled(SPELLINGS[spelling], MIXES[mix], returns=returns).eval()
    try:
        student = fxgrow.grow(teacher, 1.5, X, output=output)
    except fxgrow.PlanError:  # the only width stays
        return
    refused = 0
    for batch in (1, 2, 3, 5, 8, 9, 12, 13, 16, 17, 24, 30):
        x = X[:1].expand(batch, -1, -1, -1)
        try:
            ours = student(x)
        except fxgrow.GrowError:
            refused += 1
            continue
        torch.testing.assert_close(ours, teacher(x), rtol=1e-4, atol=1e-4)
    assert refused


class SpellsItsWidth(Spelled):
    """Only the width."""

    def forward(self, x: Tensor) -> Any:
        x = self.odd(self.first(x))
        return self.head(x.mean((2, 3)) * (self.spell(x.shape[1]) > 0))


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_width_that_is_spelled_alone_grows(output: Output, spelling: str) -> None:
    torch.manual_seed(0)
    teacher = SpellsItsWidth(SPELLINGS[spelling], min, returns=False).eval()
    student = fxgrow.grow(teacher, 1.5, X, output=output)
    assert student.get_parameter("first.weight").shape[0] == 12
    assert all(exact_or_refused(teacher, student))


class Branching(Net):
    """Decides by a width where there are many samples."""

    def __init__(self, beyond: Callable[[int], bool]) -> None:
        super().__init__(torch.tanh, min)
        self.beyond = beyond

    def forward(self, x: Tensor) -> Tensor:
        x = self.odd(self.first(x)).mean((2, 3))
        if self.beyond(x.shape[0]):
            x = x * 2 if x.shape[1] > 8 else x
        return self.head(x)


class Scaled(Branching):
    """Decides by the number of samples alone."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.odd(self.first(x)).mean((2, 3))
        return self.head(x * 2 if self.beyond(x.shape[0]) else x)


BEYOND: dict[str, Callable[[int], bool]] = {
    "many": lambda batch: batch > 20,
    "very many": lambda batch: batch > 500,
    "few": lambda batch: not batch >= 2,
    "odd one": lambda batch: batch == 17,
    "the number first": lambda batch: 20 <= batch,  # noqa: SIM300
}


@pytest.mark.parametrize("name", BEYOND)
@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_width_that_decides_behind_a_size_of_the_input_is_seen(output: Output, name: str) -> None:
    torch.manual_seed(0)
    teacher = Branching(BEYOND[name]).eval()
    try:
        student = fxgrow.grow(teacher, 1.5, X, output=output)
    except fxgrow.PlanError:  # the only width stays
        return
    for batch in (1, 2, 3, 16, 17, 20, 21, 501):
        x = X[:1].expand(batch, -1, -1, -1)
        with suppress(fxgrow.GrowError):
            torch.testing.assert_close(student(x), teacher(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", BEYOND)
def test_a_size_of_the_input_that_decides_alone_restricts_nothing(name: str) -> None:
    torch.manual_seed(0)
    teacher = Scaled(BEYOND[name]).eval()
    student = fxgrow.grow(teacher, 1.5, X, output="module")
    assert student.get_parameter("first.weight").shape[0] == 12
    assert all(exact_or_refused(teacher, student))


class OfSides(Net):
    """Makes a number of a side and a width, too, and of which a trace shows nothing behind `odd`."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.odd(x * (x.shape[2] % x.shape[1] + 1))
        return self.head((x * self.mix(x.shape[0], x.shape[1])).mean((2, 3)))


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("odd", NOT_SHOWN)
def test_a_number_of_the_batch_is_seen_where_the_student_keeps_to_the_sides(odd: str, mix: str) -> None:
    torch.manual_seed(0)
    teacher = OfSides(NOT_SHOWN[odd], MIXES[mix]).eval()
    assert_seen(teacher, "module")


class Lengths(Net):
    """Asks for sizes by the method of the class, which Python does not hand to `len`."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        number = self.mix(Tensor.__len__(x), Tensor.__len__(x.transpose(0, 1)))
        return self.head((x * number).mean((2, 3)))


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_number_of_lengths_that_a_method_of_the_class_tells_is_seen(output: Output, mix: str) -> None:
    torch.manual_seed(0)
    teacher = Lengths(torch.tanh, MIXES[mix]).eval()
    assert_seen(teacher, output)


class Several(nn.Module):
    """As many widths of different sizes as are tried, and one more; none is more frequent than another."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (4, 5, 6, 7, 9, 2)
        self.layers = nn.Sequential(*[nn.Linear(*pair) for pair in itertools.pairwise(sizes)])

    def forward(self, x: Tensor) -> Tensor:
        h = self.layers[:3](x)
        same = torch.Tensor.size(h, 0) == torch.Tensor.size(h, 1) if type(x) is Tensor else self.missing
        return self.layers[3:](h) * (1.0 + same)


def test_the_sizes_that_are_tried_are_the_same_in_each_analysis() -> None:
    model, x = Several(), torch.randn(3, 4)
    found = [fxgrow.widths(model, x, output="module").trials for _ in range(6)]
    sizes = [[trial.traced.arguments["x"].shape for trial in trials] for trials in found]
    assert all(one == sizes[0] for one in sizes)
