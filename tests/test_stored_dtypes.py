"""Weights that are stored in integers or in float8, which torch does not compute with, beside a scale."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from fxgrow.base.magnitude import has_arithmetic
from tests.check import relative_error

STORED = (torch.int8, torch.uint8, torch.bool, torch.int64, torch.float8_e4m3fn, torch.float8_e5m2)
METHODS = ("auto", "zero_out", "split", "even", "random_pad", "random_init", "noise")


class Stored(nn.Module):
    """Three linear layers, of which one is stored, or a stored gain or bias."""

    def __init__(self, dtype: torch.dtype, what: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.what = what
        self.a, self.b, self.c = (nn.Linear(i, o).double() for i, o in ((6, 8), (8, 12), (12, 3)))
        shape = {"a": (8, 6), "b": (12, 8), "c": (3, 12)}.get(what, (8,))
        self.register_buffer("stored", torch.randint(0, 2 if dtype == torch.bool else 100, shape).to(dtype))
        self.register_buffer("scale", torch.rand(shape[0], 1, dtype=torch.float64))

    def linear(self, name: str, x: Tensor) -> Tensor:
        if self.what == name:
            return F.linear(x, self.stored.double() * self.scale)
        layer = self.get_submodule(name)
        return F.linear(x, layer.weight, self.stored.double() if self.what == "bias" and name == "a" else layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear("a", x)
        h = h * self.stored.double() if self.what == "gain" else h
        return self.linear("c", self.linear("b", h).relu())


X = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", STORED, ids=str)
@pytest.mark.parametrize("what", ["a", "b", "gain", "bias"])
def test_new_rows_of_stored_weights_are_copies(dtype: torch.dtype, what: str) -> None:
    model = Stored(dtype, what).eval()
    for method in METHODS:
        student = fxgrow.grow(model, 1.5, X, method=method)
        assert student.c.weight.shape[1] == 18
        new, old = student.get_buffer("stored").double(), model.stored.double()
        assert new.shape[0] == (18 if what == "b" else 12)
        assert all(any(torch.equal(row, other) for other in old) for row in new)
        if fxgrow.plan_of(student).preserves_function:
            assert relative_error(student(X), model(X)) < 1e-10


@pytest.mark.parametrize("dtype", STORED, ids=str)
@pytest.mark.parametrize("output", ["graph", "module"])
def test_stored_weights_are_not_divided(dtype: torch.dtype, output: Any) -> None:
    model = Stored(dtype, "c").eval()
    student = fxgrow.grow(model, 1.5, X, output=output)
    assert (student.a.weight.shape[0], student.b.weight.shape[0]) == (12, 12)
    assert relative_error(student(X), model(X)) < 1e-10
    held = "integers" if not dtype.is_floating_point else str(dtype).removeprefix("torch.")
    with pytest.raises(fxgrow.PlanError, match=f"stored holds {held}, which cannot be split"):
        fxgrow.grow(model, {"b": 18}, X, output=output)


@pytest.mark.parametrize("dtype", STORED, ids=str)
def test_new_outputs_of_stored_weights(dtype: torch.dtype) -> None:
    model = Stored(dtype, "c").eval()
    zero = fxgrow.grow(model, fxgrow.Outputs(5, "zero"), X)
    assert relative_error(zero(X)[:, :3], model(X)) < 1e-10
    assert not zero(X)[:, 3:].any()
    assert relative_error(fxgrow.grow(model, fxgrow.Outputs(5), X)(X)[:, :3], model(X)) < 1e-10
    with pytest.raises(fxgrow.PlanError, match=r"stored holds \w+, which has no mean"):
        fxgrow.grow(model, fxgrow.Outputs(5, "mean"), X)


def test_which_dtypes_have_arithmetic() -> None:
    assert not any(has_arithmetic(torch.empty(0, dtype=dtype)) for dtype in STORED)
    computed = (torch.float16, torch.bfloat16, torch.float32, torch.complex64)
    assert all(has_arithmetic(torch.empty(0, dtype=dtype)) for dtype in computed)


@pytest.mark.parametrize("dtype", STORED, ids=str)
def test_a_damaged_student_of_stored_weights_is_compared_with_float64(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    model.register_buffer("stored", torch.ones(8).to(dtype))
    student = fxgrow.grow(model, 1.5, X.float())
    with torch.no_grad():
        student.get_parameter("2.bias").add_(1.0)
    report = fxgrow.verify(model, student, X.float())
    assert not report.exact
    assert all(0 < error < 1e-5 for error in report.rounding.values())


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_results_in_complex32_are_compared() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.view_as_complex(self.b(self.a(x)).view(-1, 2, 2)).to(torch.complex32)

    model = Halves().double()
    student = fxgrow.grow(model, 1.5, X, method="even")
    assert fxgrow.verify(model, student, X).errors["eval"] < 1e-3


@pytest.mark.parametrize("kind", ["parameter", "buffer", "attribute"])
def test_complex_tensors_that_are_conjugate_views_grow(kind: str) -> None:
    class Conjugate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(6, 8).double(), nn.Linear(8, 3).double()
            phases = torch.rand(8, dtype=torch.complex128).conj()
            if kind == "buffer":
                self.register_buffer("phases", phases)
            else:
                self.phases = nn.Parameter(phases) if kind == "parameter" else phases

        def forward(self, x: Tensor) -> Tensor:
            return self.b((self.a(x) * self.phases).real)

    model = Conjugate()
    assert model.phases.is_conj()
    for method in ("zero_out", "even") if kind != "attribute" else ():
        student = fxgrow.grow(model, 2.0, X, method=method)
        assert student.a.weight.shape[0] == 16
        assert relative_error(student(X), model(X)) < 1e-10
    if kind == "attribute":
        with pytest.raises(fxgrow.PlanError, match="nothing of Conjugate would grow"):
            fxgrow.grow(model, 2.0, X)


class Graph(nn.Module):
    """A layer over the neighbours of each node, whose sparse matrix is no parameter and no buffer."""

    def __init__(self, layout: torch.layout, *, reads: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.reads = nn.Linear(6, 8).double(), nn.Linear(8, 3).double(), reads
        neighbours = torch.rand(4, 4, dtype=torch.float64).masked_fill(torch.eye(4) == 0, 0.0)
        self.neighbours = neighbours.to_sparse() if layout == torch.sparse_coo else neighbours.to_sparse_csr()

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.b((self.neighbours @ h if self.reads else h).relu())


@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_sparse_matrix_that_is_an_attribute_may_be_read(output: Any) -> None:
    for model in (Graph(torch.sparse_coo), Graph(torch.sparse_coo, reads=False), Graph(torch.sparse_csr, reads=False)):
        student = fxgrow.grow(model, 1.5, X, output=output)
        assert student.a.weight.shape[0] == 12
        assert relative_error(student(X), model(X)) < 1e-10
    with pytest.raises(fxgrow.TraceError, match=r"a constant of the layout torch.sparse_csr; keep it dense or as"):
        fxgrow.grow(Graph(torch.sparse_csr), 1.5, X, output=output)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested")
def test_nested_tensors_of_a_model_are_refused_by_name() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    model.register_buffer("rows", torch.nested.nested_tensor([torch.rand(2), torch.rand(3)]))
    with pytest.raises(fxgrow.TraceError, match="'rows' is nested"):
        fxgrow.grow(model, 1.5, X.float())
