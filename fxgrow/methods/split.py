"""Per-weight split, the default: each consumer weight has its own random shares that sum to one.

y_o = sum_i W_oi x_i, with channel i replicated k times: W_oi = sum_j s_oij W_oi, sum_j s_oij = 1. Exact, and
replicas get different gradients from the first step, because each meets other weights (an even split
leaves them equal for ever, one share per replica nearly so).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from .registry import Columns, Method, divide, register, replicated_shape


@register
class Split(Method):
    name = "split"
    exact = True
    replicas = True
    source = "Net2Wider (arXiv 1511.05641) with shares per weight"

    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        draws = torch.rand(replicated_shape(weight, columns), generator=generator, dtype=torch.float32)
        return divide(weight, columns, draws + 0.1)  # no share near zero: every replica is heard
