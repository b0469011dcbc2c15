"""Per-weight split: each consumer weight has its own random shares that sum to one.

y_o = sum_i W_oi x_i, with channel i replicated k times: W_oi = sum_j s_oij W_oi, sum_j s_oij = 1. Exact, and
replicas get different gradients from the first step, because each meets other weights (an even split
leaves them equal for ever, one share per replica nearly so).
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from .registry import Columns, Method, divide, register


@register
class Split(Method):
    """Random shares, others for each weight."""

    name = "split"
    preserves_function = True
    replicas = True
    separable = True
    source = "Net2Wider (arXiv 1511.05641) with shares per weight"

    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        def share(shape: torch.Size, parts: int) -> tuple[Tensor, float]:
            return _numerators(shape, generator), 2 / (_LEAST + _MOST) / parts  # 1/parts on average

        return divide(weight, columns, share)


_LEAST, _MOST = 0x0800, 0x0800 + 0x3FFF  # 0.2 and 1.8 times the average: never near 0 or 1, so that each is heard


def _numerators(shape: torch.Size, generator: Generator) -> Tensor:
    """Integers from _LEAST to _MOST, int16: a draw of 64 bits gives four."""
    number = math.prod(shape)
    draws = torch.empty(-(-number // 4), dtype=torch.int64, device="cpu").random_(generator=generator)
    draws.bitwise_and_(0x3FFF_3FFF_3FFF_3FFF).add_(0x0800_0800_0800_0800)
    return draws.view(torch.int16)[:number].view(shape)
