"""What a forward pass can depend on besides its operators: docs/soundness.md has a row for each part of this file."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten
from torch.utils.checkpoint import checkpoint

import fxgrow

OUTPUTS = ("graph", "module")
Forward = Callable[[Any, Tensor], Any]


class Net(nn.Module):
    """Two convolutions; `forward` is given."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)
        self.code = forward

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def forward(self, x: Tensor) -> Any:
        return self.code(self, x)


def made(forward: Forward) -> Net:
    torch.manual_seed(0)
    return Net(forward).double().eval()


def example() -> Tensor:
    return torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def same(one: Any, other: Any) -> bool:
    """Whether two results have one structure and the same numbers, shapes and devices."""
    (ours, form), (theirs, their_form) = tree_flatten(one), tree_flatten(other)
    if str(form) != str(their_form):
        return False
    return all(_same_leaf(a, b) for a, b in zip(ours, theirs, strict=True))


def _same_leaf(one: Any, other: Any) -> bool:
    if callable(one):
        return same(one(), other())
    if not isinstance(one, Tensor):
        return bool(np.array_equal(one, other))
    alike = one.shape == other.shape and one.dtype == other.dtype and one.device == other.device
    return alike and torch.allclose(one.double(), other.double(), 1e-9, 1e-9, equal_nan=True)


def grown(teacher: nn.Module, output: Any, spec: Any = 2.0) -> nn.Module | None:
    """A student, or None where growing is refused."""
    try:
        return fxgrow.grow(teacher, spec, example(), output=output)
    except fxgrow.GrowError:
        return None


# -- which values are returned ---------------------------------------------------------------------------


def _two(m: Net, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    h = m.a(x)
    return h, m.b(h), m.b(h * 2)


def _picked(m: Net, x: Tensor) -> Any:
    h, y, z = _two(m, x)
    return y if h.shape[1] < 10 else z


def _picked_by_layer(m: Net, x: Tensor) -> Any:
    _, y, z = _two(m, x)
    return y if m.a.out_channels < 10 else z


def _swapped(m: Net, x: Tensor) -> Any:
    h, y, z = _two(m, x)
    return (y, z) if h.shape[1] < 10 else (z, y)


def _named_by_width(m: Net, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    return {f"c{h.shape[1]}": y}


def _as_many_as_channels(m: Net, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    return [y] * h.shape[1]


def _list_or_tuple(m: Net, x: Tensor) -> Any:
    h, y, z = _two(m, x)
    return [y, z] if h.shape[1] < 10 else (y, z)


def _ordered_by_width(m: Net, x: Tensor) -> Any:
    h, y, z = _two(m, x)
    return {"y": y, "z": z} if h.shape[1] < 10 else {"z": z, "y": y}


def _text_of_a_width(m: Net, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    return y, f"{h.shape[1]} channels"


def _maybe_none(m: Net, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    return y, (None if h.shape[1] > 10 else h.shape[0])


def _closure_over_a_width(m: Net, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    n = h.shape[1]
    return y, lambda: y * n


def _function_with_a_default(m: Net, x: Tensor) -> Any:
    h, y, _ = _two(m, x)

    def function(n: int = h.shape[1]) -> Tensor:
        return y * n

    return y, function


def _partial_with_a_width(m: Net, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    return y, functools.partial(torch.mul, y, h.shape[1])


def _array_of_widths(m: Net, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    return y, np.arange(h.shape[1])


def _whole_number_of_numpy(m: Net, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    return y, np.int64(h.shape[1])


def _slice_and_fraction(m: Net, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    return y, slice(0, h.shape[1]), Fraction(1, h.shape[1])


def _dtype_by_width(m: Net, x: Tensor) -> Any:
    h, y, _ = _two(m, x)
    return y, torch.float16 if h.shape[1] > 10 else torch.float32


RETURNED = [
    _picked, _picked_by_layer, _swapped, _named_by_width, _as_many_as_channels, _list_or_tuple, _ordered_by_width,
    _text_of_a_width, _maybe_none, _closure_over_a_width, _function_with_a_default, _partial_with_a_width,
    _array_of_widths, _whole_number_of_numpy, _slice_and_fraction, _dtype_by_width,
]  # fmt: skip


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", RETURNED)
def test_the_same_values_are_returned_in_the_same_places(forward: Forward, output: str) -> None:
    teacher = made(forward)
    student = grown(teacher, output)
    assert student is None or same(student(example()), teacher(example()))


@pytest.mark.parametrize("output", OUTPUTS)
def test_functions_that_bind_no_width_may_be_returned(output: str) -> None:
    teacher = made(lambda m, x: (m.b(m.a(x)), lambda: m.b(m.a(x) * 2), functools.partial(torch.mul, x, 2)))
    student = grown(teacher, output)
    assert student is not None
    assert same(student(example()), teacher(example()))


@pytest.mark.parametrize("output", OUTPUTS)
def test_results_that_are_made_later_are_refused_by_name(output: Any) -> None:
    teacher = made(lambda m, x: (m.b(m.a(x)), (m.b(m.a(x * i)) for i in range(m.a.out_channels // 4))))
    with pytest.raises(fxgrow.GrowError, match=r"the result\[1\] is a generator, .* return a list of them"):
        fxgrow.grow(teacher, 2.0, example(), output=output)


class Assigning(nn.Module):
    """Leaves one of two values in a buffer, depending on a width."""

    last: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)
        self.register_buffer("last", torch.zeros(2, 2, 6, 6, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        y, z = self.b(h), self.b(h * 2)
        self.last = y if h.shape[1] < 10 else z
        return y + z


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_same_values_are_left_in_buffers(output: str) -> None:
    torch.manual_seed(0)
    teacher = Assigning().double().eval()
    student = grown(teacher, output)
    if student is not None:
        assert same(student(example()), teacher(example()))
        assert same(student.get_buffer("last"), teacher.last)


# -- constants that are returned -------------------------------------------------------------------------

CONSTANTS: dict[str, Forward] = {
    "numel": lambda m, x: torch.tensor(m.a(x).numel()),
    "zeros": lambda m, x: torch.zeros(m.a(x).shape[1]),
    "full": lambda m, x: torch.full((2,), float(m.a(x).shape[1])),
    "arange": lambda m, x: torch.arange(m.a(x).shape[1]),
    "sum of ones": lambda m, x: torch.ones(m.a(x).shape[1]).sum(),
    "shape": lambda m, x: torch.tensor(m.a(x).shape),
    "eye": lambda m, x: torch.eye(m.a(x).shape[1]),
    "linspace": lambda m, x: torch.linspace(0, 1, m.a(x).shape[1])[1],
    "layer's number": lambda m, x: torch.tensor([m.a.out_channels]),
}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_made_of_widths_are_returned_as_they_were(name: str, output: str) -> None:
    teacher = made(lambda m, x: {"y": m.b(m.a(x)), "constant": CONSTANTS[name](m, x)})
    student = grown(teacher, output)
    assert student is None or same(student(example()), teacher(example()))


@pytest.mark.parametrize("output", OUTPUTS)
def test_constants_made_of_the_image_are_no_reason_to_stay(output: str) -> None:
    teacher = made(lambda m, x: (m.b(m.a(x)), torch.tensor(x.shape[2:]), x.shape[2]))
    student = grown(teacher, output)
    assert student is not None
    assert student.get_parameter("a.weight").shape[0] == 16
    assert same(student(example()), teacher(example()))


# -- the device ------------------------------------------------------------------------------------------

DEVICES: dict[str, Forward] = {
    "to the first parameter's": lambda m, x: m.b(m.a(x.to(next(m.parameters()).device))),
    "a range on it": lambda m, x: m.b(m.a(x) + torch.arange(x.shape[3], device=next(m.parameters()).device)),
    "a property": lambda m, x: m.b(m.a(x) + torch.ones(1, device=m.device, dtype=x.dtype)),
    "of the state": lambda m, x: m.b(m.a(x) + torch.ones(1).to(m.state_dict()["a.bias"].device, x.dtype)),
    "by its type": lambda m, x: m.b(m.a(x)) if m.device.type == "cpu" else m.b(m.a(x) * 2),
    "is_cpu": lambda m, x: m.b(m.a(x)) if m.a.weight.is_cpu else m.b(m.a(x) * 2),
    "is_meta": lambda m, x: m.b(m.a(x) * 2) if x.is_meta else m.b(m.a(x)),
    "is_cpu of an activation": lambda m, x: m.b(m.a(x)) if m.a(x).is_cpu else m.b(m.a(x) * 2),
    "its index": lambda m, x: m.b(m.a(x) * (2 + m.a(x).get_device())),
    "as text": lambda m, x: m.b(m.a(x)) if str(x.device) == "cpu" else m.b(m.a(x) * 2),
    "the type's name": lambda m, x: m.b(m.a(x)) if x.type() == "torch.DoubleTensor" else m.b(m.a(x) * 2),
    "a cast by type": lambda m, x: m.b(m.a(x.type(torch.float64).type(x.type()))),
    "of an activation": lambda m, x: m.b(m.a(x) + torch.ones(1, device=m.a(x).device, dtype=x.dtype)),
}  # fmt: skip


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", DEVICES)
def test_a_device_is_answered_as_the_teacher_answers(name: str, output: str) -> None:
    teacher = made(DEVICES[name])
    student = grown(teacher, output)
    assert student is not None
    assert student.get_parameter("a.weight").shape[0] == 16
    assert same(student(example()), teacher(example()))
    assert "meta" not in str(getattr(student, "code", ""))


def test_a_device_follows_the_student() -> None:
    student = grown(made(DEVICES["a range on it"]), "graph")
    assert student is not None
    moved = student.to("meta")
    assert moved(example().to("meta")).is_meta


# -- gradients, autocast, deterministic algorithms --------------------------------------------------------


def _other(h: Tensor) -> Tensor:
    return h - h.sum(1, keepdim=True)


DIFFERENT: dict[str, Forward] = {
    "grad mode": lambda m, x: m.b(_other(m.a(x)) if torch.is_grad_enabled() else m.a(x)),
    "no grad mode": lambda m, x: m.b(m.a(x) if torch.is_grad_enabled() else _other(m.a(x))),
    "requires_grad": lambda m, x: m.b(_other(m.a(x)) if m.a(x).requires_grad else m.a(x)),
    "of a weight": lambda m, x: m.b(_other(m.a(x)) if m.a.weight.requires_grad and torch.is_grad_enabled() else m.a(x)),
    "is_leaf": lambda m, x: m.b(m.a(x) if m.a(x).is_leaf else _other(m.a(x))),
    "grad_fn": lambda m, x: m.b(m.a(x) if m.a(x).grad_fn is None else _other(m.a(x))),
    "autocast": lambda m, x: m.b(_other(m.a(x)) if torch.is_autocast_enabled() else m.a(x)),
    "deterministic": lambda m, x: m.b(_other(m.a(x)) if torch.are_deterministic_algorithms_enabled() else m.a(x)),
}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", DIFFERENT)
def test_code_that_asks_for_a_global_state_and_computes_something_else_is_refused(name: str, output: Any) -> None:
    with pytest.raises(fxgrow.GrowError, match="asks whether"):
        fxgrow.grow(made(DIFFERENT[name]), 2.0, example(), output=output)


ALIKE: dict[str, Forward] = {
    "checkpoint": lambda m, x: m.b(checkpoint(m.a, x, use_reentrant=False) if torch.is_grad_enabled() else m.a(x)),
    "twice the same": lambda m, x: m.b(m.a(x) * 2 if m.a(x).requires_grad else 2 * m.a(x)),
    "deterministic": lambda m, x: m.b(m.a(x)) if torch.are_deterministic_algorithms_enabled() else m.b(+m.a(x)),
}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", ALIKE)
def test_code_that_asks_for_a_global_state_and_computes_the_same_grows(name: str, output: str) -> None:
    teacher = made(ALIKE[name])
    student = grown(teacher, output)
    assert student is not None
    assert student.get_parameter("a.weight").shape[0] == 16
    assert same(student(example()), teacher(example()))


# -- tensors that are reached outside the module tree ------------------------------------------------------


class Tuple(Net):
    def __init__(self) -> None:
        super().__init__(lambda m, x: m.b(F.conv2d(x, *m.pair)))
        self.pair = (self.a.weight, self.a.bias)


class Dictionary(Net):
    def __init__(self) -> None:
        super().__init__(lambda m, x: m.b(F.conv2d(x, m.table["w"][0])))
        self.table = {"w": [self.a.weight]}


class Lambda(Net):
    def __init__(self) -> None:
        super().__init__(lambda m, x: m.b(m.first(x)))
        self.first = lambda x: self.a(x) * 2


class Hook(Net):
    def __init__(self) -> None:
        super().__init__(lambda m, x: m.b(m.a(x)))
        self.gain = nn.Parameter(torch.rand(8))
        self.a.register_forward_hook(lambda m, i, o: o * self.gain.view(1, -1, 1, 1))


class Patched(Net):
    def __init__(self) -> None:
        super().__init__(lambda m, x: m.b(m.a(x)))
        self.a.forward = lambda x: F.conv2d(x, self.a.weight * 2, self.a.bias)  # type: ignore[method-assign]


class Default(Net):
    def __init__(self) -> None:
        super().__init__(lambda m, x: m.b(m.first(x)))

        def first(x: Tensor, w: Tensor = self.a.weight) -> Tensor:
            return F.conv2d(x, w)

        self.first = first


class Weak(Net):
    def __init__(self) -> None:
        super().__init__(lambda m, x: m.b(m.reference()(x)))
        self.reference = weakref.ref(self.a)


class Nested(Net):
    def __init__(self) -> None:
        super().__init__(lambda m, x: m.b(m.first(x)))
        weights = {"w": self.a.weight}

        def inner(x: Tensor) -> Tensor:
            return F.conv2d(x, weights["w"])

        self.first = lambda x: inner(x) * 2


class Holder:
    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def __call__(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Plain(Net):
    def __init__(self) -> None:
        super().__init__(lambda m, x: m.b(m.holder(x)))
        self.holder = Holder(self.a)


HELD = [Tuple, Dictionary, Lambda, Hook, Patched, Default, Weak, Nested, Plain]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("kind", HELD)
def test_a_student_computes_with_its_own_parameters_wherever_the_model_holds_them(kind: Any, output: str) -> None:
    torch.manual_seed(0)
    teacher = kind().double().eval()
    student = grown(teacher, output)
    if student is None:
        assert kind is Weak
        return
    before = student(example())
    assert same(before, teacher(example()))
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.mul_(1.5)
    assert same(before, student(example())), "it computes with the teacher's"
    theirs = {id(p) for p in teacher.parameters()}
    assert not any(id(p) in theirs for p in student.parameters())


OUTSIDE: dict[str, Any] = {}


class Global(Net):
    def __init__(self) -> None:
        super().__init__(lambda m, x: m.b(F.conv2d(x, OUTSIDE["w"])))
        OUTSIDE["w"] = self.a.weight


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_parameter_that_is_read_from_a_global_variable_is_named(output: Any) -> None:
    with pytest.raises(fxgrow.GrowError, match=r"'a\.weight' by another way"):
        fxgrow.grow(Global().eval(), 2.0, example().float(), output=output)


class Keeping(Net):
    """A hook keeps features in a dictionary, which `forward` reads."""

    def __init__(self) -> None:
        super().__init__(lambda m, x: m.b(m.a(x)) + m.kept["a"].mean())
        kept: dict[str, Tensor] = {}
        self.a.register_forward_hook(lambda m, i, o: kept.__setitem__("a", o[:, :3]))
        self.kept = kept


@pytest.mark.parametrize("output", OUTPUTS)
def test_what_hooks_keep_is_the_students_own(output: str) -> None:
    torch.manual_seed(0)
    teacher = Keeping().double().eval()
    teacher(example())
    before = teacher.kept["a"]
    student = grown(teacher, output)
    assert teacher.kept["a"] is before
    if student is not None:
        other = example() + 1
        assert same(student(other), teacher(other))


@pytest.mark.parametrize("output", OUTPUTS)
def test_what_hooks_keep_in_a_closure_stays_the_teachers(output: str) -> None:
    kept: dict[str, Any] = {}
    order: list[int] = []
    teacher = made(lambda m, x: m.b(m.a(x)))

    def keep(module: nn.Module, inputs: Any, result: Tensor) -> None:
        kept["features"] = result
        order.append(result.shape[1])

    teacher.a.register_forward_hook(keep)
    teacher(example())
    before, length = kept["features"], len(order)
    student = grown(teacher, output)
    assert student is not None
    student(example())
    assert kept["features"] is before
    assert len(order) == length


# -- random numbers that are seeded inside ------------------------------------------------------------------


def _forked(m: Net, x: Tensor) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        noise = torch.rand(x.shape, dtype=x.dtype)
    return m.b(m.a(x + noise))


def _seeded(m: Net, x: Tensor) -> Tensor:
    torch.manual_seed(3)
    return m.b(m.a(x + torch.rand(x.shape, dtype=x.dtype)))


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", [_forked, _seeded])
def test_seeds_inside_forward_are_kept(forward: Forward, output: str) -> None:
    teacher = made(forward)
    student = grown(teacher, output)
    assert student is not None
    assert same(student(example()), teacher(example()))


def _seeded_by_width(m: Net, x: Tensor) -> Tensor:
    h = m.a(x)
    with torch.random.fork_rng():
        torch.manual_seed(h.shape[1])
        noise = torch.rand(2, 1, 1, dtype=x.dtype)
    return m.b(h) + noise


def _seeded_where_wide(m: Net, x: Tensor) -> Tensor:
    h = m.a(x)
    if h.shape[1] > 10:
        torch.manual_seed(3)
    return m.b(h) + torch.rand(2, 1, 1, dtype=x.dtype)


def _seeded_where_narrow(m: Net, x: Tensor) -> Tensor:
    h = m.a(x)
    if h.shape[1] < 10:
        torch.default_generator.manual_seed(3)
    return m.b(h) + torch.empty(2, 1, 1, dtype=x.dtype).uniform_()


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", [_seeded_by_width, _seeded_where_wide, _seeded_where_narrow])
def test_a_seed_that_follows_a_width_is_the_teachers(forward: Forward, output: str) -> None:
    teacher = made(forward)
    student = grown(teacher, output)
    if student is None:
        return
    torch.manual_seed(5)
    expected = teacher(example())
    torch.manual_seed(5)
    assert same(student(example()), expected)


# -- the backward pass --------------------------------------------------------------------------------------


class ByCount(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.count = x.shape[1]
        return x * 2

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return g * 2 / ctx.count


class OverChannels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return g - g.sum(1, keepdim=True)


class Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return g.sign() + 1


class Flipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return g.flip(1)


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        s = x.sigmoid()
        return g * (s * (1 + x * (1 - s)))


class ThroughAnother(torch.autograd.Function):
    """Uses the forward and the backward of another class, with its own context."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return Swish.forward(ctx, x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return Swish.backward(ctx, g)


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return g.masked_fill(x.abs() > 1, 0)


def _gradient(model: nn.Module) -> Tensor:
    x = example().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).pow(2).sum(), x)
    return gradient


GOOD = (Swish, ThroughAnother, StraightThrough)


@pytest.mark.parametrize("method", ["zero_out", "split", "even"])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("function", [ByCount, OverChannels, Sign, Flipped, Swish, ThroughAnother, StraightThrough])
def test_gradients_are_kept(function: Any, bound: bool, output: Any, method: str) -> None:
    """Also where code holds the method, as `swish = Swish.apply` at the top of a module does."""
    apply, own = function.apply, dict(vars(function))
    teacher = made(lambda m, x: m.b(apply(m.a(x)) if bound else function.apply(m.a(x))))
    try:
        student = fxgrow.grow(teacher, 2.0, example(), output=output, method=method)
    except fxgrow.GrowError:
        assert function not in GOOD
        return
    assert dict(vars(function)) == own
    grows = student.get_parameter("a.weight").shape[0] > 8
    assert grows or function not in GOOD
    assert same(student(example()), teacher(example()))
    assert same(_gradient(student), _gradient(teacher))


class Scale(torch.autograd.Function):
    """A factor, whose gradients are computed where they are needed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(x, factor)
        return x * factor

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, factor = ctx.saved_tensors
        of_x = g * factor if ctx.needs_input_grad[0] else None
        return of_x, (g * x).sum((0, 2, 3))[:, None, None] if ctx.needs_input_grad[1] else None


class OtherwiseOverChannels(Scale):
    """Another gradient where the factor is frozen."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        _, factor = ctx.saved_tensors
        return (g if ctx.needs_input_grad[1] else g - g.sum(1, keepdim=True)) * factor, None


class OnlyIfNeeded(Scale):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return (g - g.sum(1, keepdim=True) if ctx.needs_input_grad[0] else None), None


class AsksInForward(Scale):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(x, factor)
        return x * factor if ctx.needs_input_grad[0] else x * x.sum(1, keepdim=True)


class Two(Scale):
    """Two results, of which one may have no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor) -> Any:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, factor)
        return x * factor, x * 2

    @staticmethod
    def backward(ctx: Any, g: Tensor, h: Tensor | None) -> Any:
        of_first = g * ctx.saved_tensors[1]
        return of_first if h is None else of_first + h * 2, None


class TwoOverChannels(Two):
    @staticmethod
    def backward(ctx: Any, g: Tensor, h: Tensor | None) -> Any:
        return (g - g.sum(1, keepdim=True) if h is None else g + h * 2), None


@pytest.mark.parametrize("method", ["zero_out", "split"])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(
    ("function", "grows"),
    [
        (Scale, True), (OtherwiseOverChannels, False), (OnlyIfNeeded, False), (AsksInForward, False), (Two, True),
        (TwoOverChannels, False),
    ],
)  # fmt: skip
def test_gradients_are_kept_whichever_of_them_are_needed(function: Any, grows: bool, output: Any, method: str) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        made = function.apply(m.a(x), m.factor)
        return m.b(made[0] if isinstance(made, tuple) else made)  # type: ignore[no-any-return]

    teacher = made(forward)
    size = teacher.a.weight.shape[0]
    teacher.factor = nn.Parameter(torch.randn(size, 1, 1, dtype=torch.float64), requires_grad=False)
    try:
        student = fxgrow.grow(teacher, {"a": 2.0}, example(), output=output, method=method)
    except fxgrow.GrowError:
        assert not grows
        return
    assert grows
    for factor in (False, True):
        for model in (teacher, student):
            model.get_parameter("factor").requires_grad_(factor)
        assert same(student(example()), teacher(example()))
        assert same(_gradient(student), _gradient(teacher))


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_backward_of_complex_numbers_is_run(output: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        z = torch.complex(y := m.a(x), y)
        return m.b(OnlyIfNeeded.apply(z, z.real).real)  # type: ignore[no-any-return]

    with pytest.raises(fxgrow.GrowError, match="depends on their number"):
        fxgrow.grow(made(forward), {"a": 2.0}, example(), output=output, method="split")


def _hooked_tensor(m: Net, x: Tensor) -> Tensor:
    h = m.a(x)
    if h.requires_grad:
        h.register_hook(lambda g: g / g.shape[1])
    return m.b(h)


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_hook_on_a_gradient_is_named(output: Any) -> None:
    with pytest.raises(fxgrow.GrowError, match="registers a hook on a gradient"):
        fxgrow.grow(made(_hooked_tensor), 2.0, example(), output=output)


@pytest.mark.parametrize("output", OUTPUTS)
def test_widths_that_a_backward_hook_is_given_stay(output: Any) -> None:
    teacher = made(lambda m, x: m.b(m.a(x)))
    teacher.a.register_full_backward_hook(lambda m, gi, go: tuple(g and g / go[0].shape[1] for g in gi))
    with pytest.raises(fxgrow.GrowError, match="backward hook"):
        fxgrow.grow(teacher, {"a": 2.0}, example(), output=output)


@pytest.fixture(autouse=True)
def _nothing_outside() -> Iterator[None]:
    yield
    OUTSIDE.clear()
