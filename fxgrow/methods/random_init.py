"""Random init: new rows and new columns drawn as for a fresh layer (He), a baseline that forgets the function."""

from __future__ import annotations

import math

from torch import Generator, Tensor

from .registry import Columns, Method, normal, register


def he_rows(weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
    """The new entries of a dimension drawn from N(0, 2 / fan_in), in place (He et al., arXiv 1502.01852)."""
    fan_in = max(1, weight[0].numel()) if weight.ndim > 1 else 1
    new = columns.new.to(weight.device)
    part = weight.index_select(columns.dim, new)
    return weight.index_copy_(columns.dim, new, normal(part.shape, part, generator) * math.sqrt(2.0 / fan_in))


@register
class RandomInit(Method):
    """Fresh rows and columns."""

    name = "random_init"
    exact = False
    replicas = False
    source = "He et al., arXiv 1502.01852"

    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return he_rows(weight, columns, generator)

    def produce(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return he_rows(weight, columns, generator)

    def bias(self, bias: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return bias.index_fill_(0, columns.new.to(bias.device), 0.0)
