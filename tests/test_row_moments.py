"""New entries of rows that keep their mean and variance: what `rewrite.row_moments` promises."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from fxgrow.rewrite.row_moments import keep_moments


@dataclass
class Index:
    index: Tensor
    original: Tensor


def _grown(old: int, copies: list[int]) -> Index:
    index = torch.tensor([*range(old), *copies])
    return Index(index, torch.arange(len(index)) < old)


def _fill(weight: Tensor, copies: dict[int, list[int]], correction: float) -> tuple[Tensor, dict[int, Index]]:
    maps = {dim: _grown(weight.shape[dim], chosen) for dim, chosen in copies.items()}
    part = weight
    for dim, known in maps.items():
        part = part.index_select(dim, known.index)
    generator = torch.Generator().manual_seed(0)
    return keep_moments(part, maps, (1, 2, 3), correction, generator), maps


@pytest.mark.parametrize("correction", [0, 1])
@pytest.mark.parametrize("copies", [{1: [2]}, {1: [0, 0, 0, 4]}, {1: [0, 1, 2, 3, 4], 2: [1]}])
def test_rows_keep_their_moments_and_replicas_add_up(copies: dict[int, list[int]], correction: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 5, 3, 2, dtype=torch.float64) + 0.7
    new, maps = _fill(weight, copies, correction)
    assert new.numel() > weight.numel()
    over = (1, 2, 3)
    assert torch.allclose(new.mean(over), weight.mean(over), 1e-13, 1e-13)
    assert torch.allclose(new.var(over, correction=correction), weight.var(over, correction=correction), 1e-13, 0)
    summed = new - new.mean(over, keepdim=True)
    for dim, known in maps.items():
        shape = [weight.shape[d] if d == dim else n for d, n in enumerate(summed.shape)]
        summed = torch.zeros(shape, dtype=torch.float64).index_add(dim, known.index, summed)
    assert torch.allclose(summed, weight - weight.mean(over, keepdim=True), 1e-12, 1e-12)


def test_replicas_differ_and_what_has_none_stays() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 5, 3, 3)
    new, _ = _fill(weight, {1: [2, 2]}, 0)
    assert torch.allclose(new[:, [0, 1, 3, 4]], weight[:, [0, 1, 3, 4]], 1e-6, 1e-6)
    replicas = new[:, [2, 5, 6]]
    for a in range(3):
        for b in range(a):
            assert ((replicas[:, a] - replicas[:, b]).abs() > 1e-4).all()


def test_a_row_of_one_value_stays_one() -> None:
    new, _ = _fill(torch.full((2, 3, 1, 1), 0.3), {1: [0]}, 1)
    assert torch.equal(new, torch.full((2, 4, 1, 1), 0.3))
