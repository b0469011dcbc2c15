"""Students of models whose code asks for sizes or arguments: they refuse what would take another path."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.capture.proxy import guard
from tests.nets.idioms import Body, odd_width, size_in_a_table
from tests.nets.registry import IMAGE
from tests.nets.signatures import DictInput, KeywordOnly, ListInput, StarInputs, StarKeywords

X = torch.randn(IMAGE, dtype=torch.float64)


def saved(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


COPIES = {
    "itself": lambda model: model,
    "a deepcopy": copy.deepcopy,
    "a pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "a file": saved,
    "a pickle of a deepcopy of a file": lambda model: pickle.loads(pickle.dumps(copy.deepcopy(saved(model)))),
}


@pytest.mark.parametrize("kind", COPIES)
def test_another_path_is_refused_by_every_copy(kind: str) -> None:
    torch.manual_seed(0)
    teacher = Body(odd_width).double().eval()
    student = COPIES[kind](fxgrow.grow(teacher, 2.0, X))
    for mode in (False, True):
        student.train(mode)
        teacher.train(mode)
        for sizes in (IMAGE, (5, 3, 7, 8), (1, 3, 6, 10)):
            x = torch.randn(sizes, dtype=torch.float64)
            assert torch.allclose(student(x), teacher(x), rtol=1e-10, atol=1e-12)
        with pytest.raises(fxgrow.GrowError, match="another path"):
            student(torch.randn(2, 3, 6, 9, dtype=torch.float64))
    assert any("refuses inputs" in note for note in fxgrow.plan_of(student).notes)


class WidthAsked(nn.Module):
    """Decides by widths: where they grow, the decision stays the teacher's or the width does."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 5, 1), nn.Conv2d(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        if x.shape[1] != self.b.in_channels:
            raise ValueError(f"expected {self.b.in_channels} channels")
        assert x.shape[1] == 6 or x.shape[1] == 12
        x = self.b(x.tanh())
        return self.c(x.exp() if x.size(1) > 3 else x)


def test_guards_on_widths_that_grow_are_dropped() -> None:
    torch.manual_seed(0)
    teacher = WidthAsked().double()
    student = fxgrow.grow(teacher, 2.0, X)
    assert student.get_parameter("a.weight").shape[0] == 12
    assert student.get_parameter("b.weight").shape[0] == 10
    assert fxgrow.verify(teacher, student, X).exact
    assert fxgrow.verify(teacher, pickle.loads(pickle.dumps(student)), X).exact
    expected = [n.args[1] for n in student.graph.nodes if n.target is guard]
    assert expected == [[4], True], expected  # four dimensions, and more than 3 channels


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_student_may_be_cast(dtype: torch.dtype) -> None:
    """Questions about dtype and device that have the same answer are none about the path."""

    class Casting(Body):
        def forward(self, x: Tensor) -> Tensor:
            if x.dtype != self.a.weight.dtype or x.device != self.a.weight.device:
                x = x.to(self.a.weight)
            kind = "whole" if x.dtype in (torch.int32, torch.int64) else "real"
            return self.c(self.features(x)) * (1.0 if kind == "real" else 0.0)

    torch.manual_seed(0)
    teacher = Casting()
    student = fxgrow.grow(teacher, 2.0, X.float())
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 0.1, torch.float64: 1e-5}[dtype]
    out = student.to(dtype)(X.to(dtype))
    assert out.dtype is dtype
    assert torch.allclose(out.double(), teacher(X.float()).double(), rtol=tolerance, atol=tolerance)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert student.float()(X.float()).dtype is torch.bfloat16


def _inputs(kind: type[nn.Module]) -> tuple[Any, list[Any]]:
    """An example, and inputs that the teacher takes another path for."""
    mask = torch.rand(2, 1, 6, 8, dtype=torch.float64)
    if kind is ListInput:
        return ([X, X + 1],), []
    if kind is DictInput:
        batch = {"image": X, "weight": torch.ones(2, dtype=torch.float64), "name": "left"}
        without = {k: v for k, v in batch.items() if k != "weight"}
        return (batch,), [({**batch, "name": "right"},), (without,), ({**batch, "nothing": X},)]
    if kind is KeywordOnly:
        return {"x": X, "mask": mask}, [{"x": X}, {"x": X, "mask": mask, "bias": mask}]
    if kind is StarInputs:
        return (X, X), [(X,), (X, X, X)]
    return {"x": X, "left": X}, [{"x": X}, {"x": X, "right": X}, {"x": X, "left": X, "right": X}]


@pytest.mark.parametrize("kind", [ListInput, DictInput, KeywordOnly, StarInputs, StarKeywords])
def test_other_arguments_are_refused(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    teacher = kind().double().eval()
    example, others = _inputs(kind)
    for student in (fxgrow.grow(teacher, 2.0, example), saved(fxgrow.grow(teacher, 2.0, example))):
        assert fxgrow.verify(teacher, student, example).exact
        for other in others:
            args, kwargs = ((), other) if isinstance(other, dict) else (other, {})
            teacher(*args, **kwargs)
            with pytest.raises(fxgrow.GrowError, match="another path"):
                student(*args, **kwargs)


def test_a_table_of_sizes_is_asked_with_a_guard() -> None:
    student = fxgrow.grow(Body(size_in_a_table).double(), 2.0, X)
    with pytest.raises(fxgrow.GrowError, match="7 instead of 6"):
        student(torch.randn(2, 3, 7, 8, dtype=torch.float64))


class Asks(nn.Module):
    """Decides by the length of a sequence."""

    def __init__(self, asks: Callable[[int], Any]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)
        self.asks = asks

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        return self.b(h * 2 if self.asks(x.shape[1]) else h)


# What code asks of the length, which is 5 in the example, as for 7; for 8 and 9 some have another answer.
ASKED: dict[str, Callable[[int], Any]] = {
    "whether it is more": lambda n: n > 10,
    "whether it is a number": lambda n: n == 9,
    "whether it is between two": lambda n: 2 <= n < 100,
    "two questions in one": lambda n: (n > 1) & (n < 9),
    "whether it is odd": lambda n: n % 2 == 1,
    "whether it is one of some": lambda n: n in (8, 30),
    "the smaller one": lambda n: min(n, 3) == 3,
    "a part": lambda n: n / 2 > 3.9,
    "whether a part is whole": lambda n: (n / 2).is_integer(),
    "a number": lambda n: sum(range(n)) > 9,
}


def _grown(asked: str) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    teacher = Asks(ASKED[asked]).double()
    return teacher, fxgrow.grow(teacher, 2.0, torch.randn(3, 5, 4, dtype=torch.float64))


def assert_takes_and_refuses_the_same(student: nn.Module, compiled: Callable[[Tensor], Tensor]) -> None:
    for length in (5, 7, 8, 9):
        x = torch.randn(3, length, 4, dtype=torch.float64)
        try:
            expected = student(x)
        except fxgrow.GrowError:
            assert length > 5
            with pytest.raises(fxgrow.GrowError, match="another path"):
                compiled(x)
        else:
            assert torch.allclose(compiled(x), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("asked", ASKED)
def test_compiled_students_ask_sizes_that_vary_what_others_ask(asked: str) -> None:
    _, student = _grown(asked)
    torch.compiler.reset()
    assert_takes_and_refuses_the_same(student, torch.compile(student, backend="eager"))


@pytest.mark.parametrize("asked", sorted(ASKED.keys() - {"a number"}))
def test_students_that_ask_for_sizes_compile_as_one_graph_for_all_sizes(asked: str) -> None:
    _, student = _grown(asked)
    torch.compiler.reset()
    compiled = torch.compile(student, backend="eager", dynamic=True, fullgraph=True)
    for length in (5, 7):
        x = torch.randn(3, length, 4, dtype=torch.float64)
        assert torch.allclose(compiled(x), student(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("asked", ["whether it is odd", "a number"])
def test_a_compiled_student_as_one_graph_says_why_it_refuses(asked: str) -> None:
    _, student = _grown(asked)
    torch.compiler.reset()
    compiled = torch.compile(student, backend="eager", dynamic=True, fullgraph=True)
    with pytest.raises(Exception, match="these inputs would take another path through the model's code"):
        compiled(torch.randn(3, 6, 4, dtype=torch.float64))


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("asked", sorted(ASKED.keys() - {"a number", "whether a part is whole"}))
def test_students_that_ask_for_sizes_are_exported_with_sizes_that_vary(asked: str, strict: bool) -> None:
    teacher, student = _grown(asked)
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    exported = [
        torch.export.export(one, (x,), dynamic_shapes=({1: torch.export.Dim.AUTO},), strict=strict).module()
        for one in (teacher, student)
    ]
    for length in (5, 7):
        x = torch.randn(3, length, 4, dtype=torch.float64)
        theirs, ours = [one(x) for one in exported]
        assert torch.allclose(ours, student(x), rtol=1e-10, atol=1e-12)
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12)
