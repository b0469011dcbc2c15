"""Models that override what torch gives them: each grows exactly, or is refused with a reason."""

from __future__ import annotations

import functools
import statistics
import threading
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from tests.left import grown_or_left

TWO, TWOS, RELU = torch.tensor(2.0), torch.full((8, 1, 1), 2.0, dtype=torch.float64), nn.ReLU()


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Any:
        return self.b(self.a(x).relu())


# -- models that grow ----------------------------------------------------------------------------------


class TrainRaises(Plain):
    def train(self, mode: bool = True) -> Any:
        if mode:
            raise RuntimeError("frozen: use eval()")
        return super().train(mode)


class OwnModules(Plain):
    def modules(self) -> Any:
        return iter([self])

    def named_modules(self, *_args: Any, **_kwargs: Any) -> Any:
        return iter([("", self)])


class OwnParameters(Plain):
    def parameters(self, recurse: bool = True) -> Any:
        return iter([])

    def named_parameters(self, *_args: Any, **_kwargs: Any) -> Any:
        return iter([])


class OwnBuffers(Plain):
    def named_buffers(self, *_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError("no buffers today")


class ModeIsComputed(Plain):
    training = property(lambda self: False, lambda self, value: None)  # type: ignore[assignment]


class PropertyRaises(Plain):
    @property
    def size(self) -> int:
        raise KeyError("size")


class OwnCall(Plain):
    def __call__(self, x: Tensor) -> Any:
        return super().__call__(x * 2)


class CallsOwnCall(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = OwnCall(), nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.inner(x))


class StateDictRaises(Plain):
    def state_dict(self, *_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError("no state today")


class HasSlots(Plain):
    __slots__ = ("extra",)

    def __init__(self) -> None:
        super().__init__()
        self.extra = 3


class TakesAnything(Plain):
    def forward(self, *args: Tensor, **kwargs: Any) -> Any:
        return self.b(self.a(args[0]).relu()) * kwargs.get("scale", 1)


class ForwardIsAPartial(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.forward = functools.partial(type(self).run, self)  # type: ignore[method-assign]

    def run(self, x: Tensor) -> Any:
        return self.b(self.a(x).relu())


class EqualsEverything(Plain):
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1


class IsEmpty(Plain):
    def __len__(self) -> int:
        return 0


class HasNoTruth(Plain):
    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")


class HoldsEmpty(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = IsEmpty(), nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.inner(x))


class ReprRaises(Plain):
    def __repr__(self) -> str:
        raise RuntimeError("no name")


class HasNothing(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.register_module("n", None)
        self.register_parameter("p", None)
        self.register_buffer("q", None)


class HoldsItsParent(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.a.parent = [self]  # type: ignore[assignment]


class TensorAsDefault(Plain):
    def forward(self, x: Tensor, scale: Tensor = TWO) -> Any:
        return self.b(self.a(x).relu() * scale)


class ObjectsAsDefaults(Plain):
    def forward(self, x: Tensor, act: Any = RELU, dtype: Any = torch.float64, f: Any = torch.abs) -> Any:
        return f(self.b(act(self.a(x)))).to(dtype)


class CatchesErrors(Plain):
    def forward(self, x: Tensor) -> Any:
        h = self.a(x).relu()
        try:
            h = h * 2 if float(h.detach().sum()) > 0 else h * 5
        except Exception:  # noqa: BLE001 - as users do
            h = h * 3
        return self.b(h)


class CatchesErrorsOfNumpy(Plain):
    def forward(self, x: Tensor) -> Any:
        h = self.a(x).relu()
        try:
            h = h * float(h.detach().numpy().max())
        except TypeError:
            h = h * 3
        return self.b(h)


class CatchesErrorsInside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = CatchesErrors(), nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Any:
        try:
            return self.out(self.inner(x))
        except Exception:  # noqa: BLE001 - as users do
            return x[:, :2]


class CatchesAnyException(Plain):
    def forward(self, x: Tensor) -> Any:
        h = self.a(x).relu()
        try:
            h = h.reshape(2, 8, 36).reshape(2, 8, 6, 6)
        except BaseException:  # noqa: BLE001 - as users do
            h = h * 3
        return self.b(h)


class DrawsItsWeight(Plain):
    @property
    def w(self) -> Tensor:
        return self.a.weight

    def forward(self, x: Tensor) -> Any:
        return self.b(F.conv2d(x, self.w, self.a.bias).relu())


def _wide() -> tuple[nn.Module, ...]:
    """Layers that can grow whatever comes before them."""
    return nn.Conv2d(2, 6, 1), nn.ReLU(), nn.Conv2d(6, 2, 1)


GROWING = [
    TrainRaises, OwnModules, OwnParameters, OwnBuffers, ModeIsComputed, PropertyRaises, OwnCall, CallsOwnCall,
    StateDictRaises, HasSlots, TakesAnything, ForwardIsAPartial, EqualsEverything, IsEmpty, HasNoTruth, HoldsEmpty,
    ReprRaises, HasNothing, HoldsItsParent, TensorAsDefault, ObjectsAsDefaults, CatchesErrors, CatchesErrorsOfNumpy,
    CatchesErrorsInside, CatchesAnyException, DrawsItsWeight,
]  # fmt: skip
BY_THEMSELVES = [model for model in GROWING if not model.__name__.startswith("Catches")]
X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("model", GROWING, ids=lambda model: model.__name__)
def test_an_odd_model_has_an_exact_student(model: Any, output: Any) -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(model(), *_wide()).double()
    teacher.training = False  # without train(), which some have of their own
    for module in teacher[1:]:
        module.eval()
    student = fxgrow.grow(teacher, 2.0, X, output=output)
    assert student.get_parameter("1.weight").shape[0] == 12
    torch.testing.assert_close(student(X), teacher(X), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize(
    "model", [m for m in GROWING if not m.__name__.startswith("Catches")], ids=lambda m: m.__name__
)
def test_an_odd_model_grows_by_itself(model: Any, output: Any) -> None:
    teacher = model().double().eval()
    student = grown_or_left(teacher, 2.0, X, output=output)
    torch.testing.assert_close(student.eval()(X), teacher(X), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_student_catches_what_its_teacher_catches(output: Any) -> None:
    teacher = nn.Sequential(CatchesErrors(), *_wide()).double().eval()
    student = fxgrow.grow(teacher, 2.0, X, output=output).eval()
    for x in (X, -X, X * 0):
        torch.testing.assert_close(student(x), teacher(x), rtol=1e-10, atol=1e-10)


def test_an_error_of_meta_tensors_that_forward_catches_is_no_path_of_the_model() -> None:
    with pytest.raises(fxgrow.TraceError, match="meta"):
        fxgrow.grow(CatchesErrors().double(), 2.0, X.to("meta"))


# -- models that are refused ---------------------------------------------------------------------------


class ForwardHasNoSignature(Plain):
    forward = torch.relu  # type: ignore[assignment]


class DeepcopyRaises(Plain):
    def __deepcopy__(self, memo: Any) -> Any:
        raise ValueError("one is enough")


class DeepcopyIsNoCopy(Plain):
    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        return self


class DeepcopyIsAnother(Plain):
    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        return type(self)()


class SharedConvolution(nn.Conv2d):
    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        return self


class HoldsWhatIsNotCopied(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.b = SharedConvolution(8, 2, 1)


class HoldsALock(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class ErrorHasNoText(Plain):
    def forward(self, x: Tensor) -> Any:
        raise Unspeakable


class CallsItself(Plain):
    def forward(self, x: Tensor) -> Any:
        return self.forward(x)


class HookRaises(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.a.register_forward_hook(lambda *_: 1 // 0)


class ReturnsNothing(Plain):
    def forward(self, x: Tensor) -> Any:
        self.b(self.a(x))


class Yields(Plain):
    def forward(self, x: Tensor) -> Any:
        yield self.b(self.a(x))


class ChildIsNoModule(Plain):
    def __init__(self) -> None:
        super().__init__()
        self._modules["n"] = 5  # type: ignore[assignment]


class AttributesAreKeys(Plain):
    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("_modules", {}):
            return super().__getattr__(name)
        raise KeyError(name)


def _parameters(model: nn.Module) -> list[tuple[int, torch.device, int]]:
    layers = [layer for layer in model._modules.values() if isinstance(layer, nn.Module)]
    return [(id(p), p.device, p._version) for layer in layers for p in layer._parameters.values() if p is not None]


REFUSED = {
    ForwardHasNoSignature: "does not state its arguments",
    DeepcopyRaises: "cannot be copied: ValueError: one is enough",
    DeepcopyIsNoCopy: "its own code for deepcopy makes another model",
    DeepcopyIsAnother: "its own code for deepcopy makes another model",
    HoldsWhatIsNotCopied: "its own code for deepcopy makes another model",
    HoldsALock: "cannot be copied",
    ErrorHasNoText: "Unspeakable",
    CallsItself: "RecursionError",
    HookRaises: "ZeroDivisionError",
    ReturnsNothing: "returns no tensor",
    Yields: "the result is a generator, whose entries fxgrow cannot compare",
    ChildIsNoModule: "'n' is a int, which is no nn.Module",
}


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("model", REFUSED, ids=lambda model: model.__name__)
def test_a_model_that_cannot_grow_is_refused_with_the_reason(model: Any, output: Any) -> None:
    teacher = model()
    before = _parameters(teacher)
    with pytest.raises(fxgrow.GrowError, match=REFUSED[model]):
        fxgrow.grow(teacher, 2.0, X.float(), output=output)
    assert before == _parameters(teacher)


@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_model_whose_attributes_raise_key_errors_grows(output: Any) -> None:
    teacher = AttributesAreKeys()
    student = fxgrow.grow(teacher, 2.0, X.float(), output=output)
    torch.testing.assert_close(student(X.float()), teacher(X.float()))


def test_a_module_without_init_is_refused() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            pass

    with pytest.raises(fxgrow.TraceError, match=r"lacks what nn.Module.__init__ sets"):
        fxgrow.grow(Bare(), 2.0, X)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_modules_of_torchscript_are_refused_wherever_they_are() -> None:
    scripted = torch.jit.trace(nn.Conv2d(3, 8, 1), torch.rand(1, 3, 6, 6))
    with pytest.raises(fxgrow.TraceError, match="is a ScriptModule"):
        fxgrow.grow(scripted, 2.0, X.float())
    with pytest.raises(fxgrow.TraceError, match="'0' is a ScriptModule"):
        fxgrow.grow(nn.Sequential(scripted, nn.Conv2d(8, 2, 1)), 2.0, X.float())


# -- arguments -----------------------------------------------------------------------------------------


class TakesScale(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Sequential(*_wide())

    def forward(self, x: Tensor, scale: Tensor = TWOS) -> Any:
        return self.wide(self.b(self.a(x).relu() * scale))


@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_tensor_that_is_a_default_can_be_left_out_or_given(output: Any) -> None:
    teacher = TakesScale().double()
    student = grown_or_left(teacher, 2.0, X, output=output)
    torch.testing.assert_close(student(X), teacher(X))
    other = torch.rand(8, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(student(X, other), teacher(X, other))
    torch.testing.assert_close(student(X, scale=other), teacher(X, scale=other))


@pytest.mark.parametrize(
    ("model", "more"),
    [
        (ObjectsAsDefaults, {"dtype": torch.float32}),
        (ObjectsAsDefaults, {"f": torch.sin}),
        (TakesAnything, {"scale": 2}),
    ],
)
def test_arguments_that_a_graph_has_no_place_for_are_not_ignored(model: Any, more: dict[str, Any]) -> None:
    teacher = model().double()
    student = grown_or_left(teacher, 2.0, X)
    with pytest.raises(fxgrow.GrowError, match="another path"):
        student(X, **more)
    whole = grown_or_left(teacher, 2.0, {"x": X, **more} if model is ObjectsAsDefaults else X, output="module")
    torch.testing.assert_close(whole(X, **more), teacher(X, **more))


ITSELF: list[Any] = []
ITSELF.append(ITSELF)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"leaf_modules": 5}, "leaf_modules is 5"),
        ({"leaf_modules": [None]}, "leaf_modules is"),
        ({"spec": "[" * 10**5 + "]" * 10**5}, "not JSON"),
        ({"spec": ITSELF}, "nested too deep"),
        ({"example_inputs": 5}, "expected a tensor"),
        ({"method": []}, "no method"),
        ({"seed": "a"}, "seed is an int"),
    ],
)
def test_odd_arguments_are_refused_with_the_reason(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(fxgrow.GrowError, match=told):
        fxgrow.grow(Plain(), **{"spec": 2.0, "example_inputs": X.float(), **arguments})


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_tensors_are_refused(layout: torch.layout) -> None:
    x = torch.nested.nested_tensor([torch.rand(3, 4), torch.rand(5, 4)], layout=layout)
    with pytest.raises(fxgrow.GrowError):
        fxgrow.grow(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), 2.0, x)


class StatesItsSize(nn.Module):
    """Uses a size that it states as Python's own modules take numbers: they make others of the same class of it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.size, self.parts = nn.Linear(6, 8), nn.Linear(8, 3), 8, 5

    def forward(self, x: Tensor) -> Tensor:
        scale = statistics.mean([self.parts, 2]) + type(self.parts)(3) + Fraction(self.parts, 3) + int(str(self.parts))
        return self.b(self.a(x).view(-1, self.size).relu()) * float(scale)


@pytest.mark.parametrize("output", ["graph", "module"])
def test_an_attribute_is_a_number_like_others_for_pythons_modules(output: Any) -> None:
    teacher, x = StatesItsSize().double(), torch.randn(4, 6, dtype=torch.float64)
    student = fxgrow.grow(teacher, {"a": 16}, x, output=output)
    torch.testing.assert_close(student(x), teacher(x))


class PartOfATable(nn.Module):
    """A number that is the sum of a part of a table, whose rows lie apart in memory."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.a, self.b, self.table = nn.Linear(5, 8), nn.Linear(8, 3), table

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu()) * self.table[:8, :8].to(x.dtype).sum()


@pytest.mark.parametrize("table", [torch.randn(64, 64), torch.randn(64, 64).T, torch.randn(1, 64).expand(64, 64)])
def test_a_sum_of_a_part_of_a_constant_is_that_of_the_teacher(table: Tensor) -> None:
    teacher, x = PartOfATable(table), torch.randn(2, 5)
    student = fxgrow.grow(teacher, {"a": 12}, x)
    assert student.get_parameter("a.weight").shape == (12, 5)
    torch.testing.assert_close(student(x), teacher(x), rtol=1e-5, atol=1e-5)
