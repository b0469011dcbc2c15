"""Per-weight split: the shares of the replicas are random, drawn for each consumer weight, and sum to one.

y_o = sum_i W_oi x_i, with channel i replicated k times: W_oi = sum_j s_oij W_oi, sum_j s_oij = 1. Preserves the
function. Replicas get different gradients from the first step, because their outgoing weights differ by more than a
factor. (With an even split they stay equal; with one share per replica their gradients are parallel.)
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from ..base.rng import sixteen_bits
from .arithmetic import divide
from .columns import Columns
from .registry import Method, register


@register
class Split(Method):
    """Random shares, drawn for each weight."""

    name = "split"
    preserves_function = True
    replicas = True
    separable = True
    overwrites = True
    source = "Net2Wider (arXiv 1511.05641) with shares per weight"

    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        def share(shape: torch.Size, parts: int) -> tuple[Tensor, float]:
            return _numerators(shape, generator), 2 / (_LEAST + _MOST) / parts  # 1/parts on average

        return divide(weight, columns, share)


_LEAST, _MOST = 0x0800, 0x0800 + 0x3FFF  # 0.2 and 1.8 times the average, so that no share is near 0 or 1


def _numerators(shape: torch.Size, generator: Generator) -> Tensor:
    """Random integers from _LEAST to _MOST, int16."""
    return sixteen_bits(math.prod(shape), generator).bitwise_and_(0x3FFF).add_(_LEAST).view(shape)
