"""Per-weight split, the default: each consumer weight has its own random shares that sum to one.

y_o = sum_i W_oi x_i, with channel i replicated k times: W_oi = sum_j s_oij W_oi, sum_j s_oij = 1. Exact, and
replicas get different gradients from the first step, because each meets other weights (an even split
leaves them equal for ever, one share per replica nearly so).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from .registry import Columns, Method, divide, register


@register
class Split(Method):
    """Random shares, others for each weight."""

    name = "split"
    exact = True
    replicas = True
    source = "Net2Wider (arXiv 1511.05641) with shares per weight"

    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        def fraction(shape: torch.Size, parts: int) -> Tensor:
            # 1/parts on average; never near 0 or 1, so that every replica is heard
            draws = torch.empty(shape, dtype=torch.float32, device="cpu")
            return draws.uniform_(0.2 / parts, 1.8 / parts, generator=generator)

        return divide(weight, columns, fraction)
