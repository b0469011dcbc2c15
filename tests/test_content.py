"""Digests of tensors: by content, by nothing else, and fast."""

import time

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.base.content import digest


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int8, torch.bool, torch.complex64])
def test_equal_entries_have_one_digest_whatever_else_their_storage_holds(dtype: torch.dtype) -> None:
    whole = torch.arange(24).view(4, 6).to(dtype)
    assert digest(whole[1:3]) == digest(whole[1:3].clone())
    assert digest(whole.t()) == digest(whole.t().contiguous())
    assert digest(whole[1:3]) != digest(whole[2:4]) or dtype == torch.bool


def test_conjugates_and_negatives_are_read_as_they_are() -> None:
    z = torch.tensor([1 + 2j, 3 - 1j])
    assert digest(z.conj()) == digest(z.conj().resolve_conj()) != digest(z)


def test_an_empty_tensor_and_a_number_have_digests() -> None:
    assert digest(torch.empty(0, 3)) != digest(torch.tensor(1.0)) != digest(torch.tensor(2.0))


class Masked(nn.Module):
    """Reads a large constant that is neither parameter nor buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)
        self.table = torch.rand(16 * 1024 * 1024)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu()) * self.table[:2]


def test_a_constant_of_64_megabytes_costs_seconds_not_minutes() -> None:
    """It took 136 s where each byte was a step of a loop in Python."""
    teacher, x = Masked().eval(), torch.randn(3, 4)
    start = time.process_time()
    student = fxgrow.grow(teacher, 2.0, x)
    assert time.process_time() - start < 10  # .5 to .9 s
    assert torch.allclose(student(x), teacher(x), atol=1e-6)
