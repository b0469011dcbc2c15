"""Even split: every replica gets 1/k of the consumer's weight (Net2Wider without noise).

Exact, but replicas stay equal under deterministic training: they get the same gradients.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from .registry import Columns, Method, divide, register


@register
class Even(Method):
    """Equal shares."""

    name = "even"
    preserves_function = True
    replicas = True
    separable = True
    source = "Net2Wider, arXiv 1511.05641, equation 2"

    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return divide(weight, columns, lambda _, parts: (torch.ones(()), 1 / parts))
