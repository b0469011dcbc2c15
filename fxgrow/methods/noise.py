"""Even split plus noise of 5 % of the weight's standard deviation on the new columns: not function-preserving.

What the public Net2Net scripts do to part the replicas; here as a baseline.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from .registry import Columns, Method, divide, normal, register

AMOUNT = 5e-2  # of the standard deviation of the new columns


@register
class Noise(Method):
    """Equal shares, and noise on the new columns."""

    name = "noise"
    preserves_function = False
    replicas = True
    source = "the noise term of public Net2Wider scripts"

    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        weight = divide(weight, columns, lambda _, parts: (torch.ones(()), 1 / parts))
        part = weight.index_select(columns.dim, columns.new)
        noise = normal(part.shape, part, generator) * (AMOUNT * part.float().std(correction=0)).to(part)
        return weight.index_copy_(columns.dim, columns.new, part + noise)
