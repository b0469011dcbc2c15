"""Results of meta kernels are remembered for all models of a process, with everything that they depend on."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from tests.check import assert_exact


class Quotient(nn.Module):
    """Takes a path by the dtype of a quotient of integers, which is torch's default one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.single, self.double_ = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor, number: Tensor) -> Tensor:
        share, h = number / (number + 2), torch.tanh(self.a(x))
        return self.single(h) if share.dtype == torch.float32 else self.double_(h)


@pytest.mark.parametrize("output", ["graph", "module"])
def test_the_default_dtype_is_a_part_of_a_call_on_meta(output: Any) -> None:
    torch.manual_seed(0)
    model, x, number = Quotient().double(), torch.randn(2, 4, dtype=torch.float64), torch.ones(2, 1, dtype=torch.int64)
    before = torch.get_default_dtype()
    for dtype, read in ((torch.float32, "single"), (torch.float64, "double_")):
        torch.set_default_dtype(dtype)
        try:
            student = fxgrow.grow(model, 2.0, (x, number), output=output)
            assert student.get_parameter(f"{read}.weight").shape == (3, 12)
            assert_exact(model, student, (x, number), 1e-10)
        finally:
            torch.set_default_dtype(before)
