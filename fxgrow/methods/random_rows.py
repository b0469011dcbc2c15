"""Random rows: a new output is drawn like the old ones. For `Outputs`.

Entries are normal, with the mean and the standard deviation of the old entries of their tensor. Of a norm that
follows, a new output gets the parameters and statistics of one of the old ones, which the plan's mapping draws: a
variance has to be positive.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from .registry import Columns, NewRows, fill_new, normal, register


@register
class RandomRows(NewRows):
    """Rows drawn like the old ones."""

    name = "random_rows"
    source = "a normal distribution with the moments of the old rows"

    def produce(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        old = weight.index_select(columns.dim, torch.nonzero(columns.original).flatten().to(weight.device)).double()
        shape = list(weight.shape)
        shape[columns.dim] = len(columns.new)
        drawn = normal(torch.Size(shape), old, generator)
        return fill_new(weight, columns, drawn * old.std(correction=0) + old.mean())

    def bias(self, bias: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return self.produce(bias, columns, generator)
