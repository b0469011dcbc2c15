"""Example inputs that are sparse, nested or packed, results of the user's own calls, and tensors of subclasses."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

import fxgrow
from tests.check import relative_error

X = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Neighbours(nn.Module):
    """A layer over the neighbours of each node, which are an input."""

    def __init__(self, read: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.read = read
        self.a, self.b = nn.Linear(6, 8).double(), nn.Linear(8, 3).double()

    def forward(self, x: Tensor, near: Tensor) -> Tensor:
        return self.b(self.read(near, self.a(x)).relu())


def matrix() -> Tensor:
    dense = torch.rand(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return dense.masked_fill(dense < 0.4, 0.0)


READS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "not read": lambda near, h: h,
    "values": lambda near, h: h * near.coalesce().values().sum(),
    "places": lambda near, h: torch.zeros_like(h).index_add(
        0, near.coalesce().indices()[0], h[near.coalesce().indices()[1]]
    ),
    "product": lambda near, h: near @ h,
}


@pytest.mark.parametrize("read", READS)
def test_a_sparse_input_is_read_as_the_model_reads_it(read: str) -> None:
    model, near = Neighbours(READS[read]), matrix().to_sparse()
    student = fxgrow.grow(model, 1.5, (X, near))
    assert student.a.weight.shape[0] == 12
    assert relative_error(student(X, near), model(X, near)) < 1e-10
    assert fxgrow.verify(model, student, (X, near)).exact


def test_a_sparse_result_is_compared() -> None:
    class Sparse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 8).double(), nn.Linear(8, 3).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x)).to_sparse()

    model = Sparse()
    student = fxgrow.grow(model, 1.5, X)
    assert fxgrow.verify(model, student, X).exact
    with torch.no_grad():
        student.b.bias.add_(1.0)
    assert not fxgrow.verify(model, student, X).exact


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested")
def test_nested_and_packed_inputs_are_refused_by_name() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    rows = [torch.randn(3, 6), torch.randn(2, 6)]
    for layout in (torch.strided, torch.jagged):
        with pytest.raises(fxgrow.TraceError, match="example_inputs hold a nested tensor"):
            fxgrow.grow(model, 1.5, torch.nested.nested_tensor(rows, layout=layout))
    with pytest.raises(fxgrow.TraceError, match="example_inputs hold a tensor that fxgrow does not follow"):
        fxgrow.grow(model, 1.5, (pack_sequence(rows),))


class Other(Tensor):
    """A subclass without anything of its own."""


@pytest.mark.parametrize("make", [lambda: X.clone().requires_grad_() * 2, lambda: X.as_subclass(Other)])
def test_inputs_that_torch_does_not_copy_are_compared(make: Any) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)).double()
    student = fxgrow.grow(model, 1.5, make())
    assert fxgrow.verify(model, student, make()).exact
