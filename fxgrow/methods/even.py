"""Even split: every replica gets 1/k of the consumer's weight (Net2Wider without noise).

Preserves the function. Replicas get equal gradients, so they stay equal under deterministic training.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from .arithmetic import divide
from .columns import Columns
from .registry import Method, register


@register
class Even(Method):
    """Each of k replicas gets 1/k of the weight."""

    name = "even"
    preserves_function = True
    replicas = True
    separable = True
    overwrites = True
    source = "Net2Wider, arXiv 1511.05641, equation 2"

    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return divide(weight, columns, lambda _, parts: (torch.ones(()), 1 / parts))
