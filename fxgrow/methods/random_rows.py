"""Random rows: new outputs are drawn from the distribution of the old rows. For `Outputs`.

Entries are normal, with the mean and standard deviation of the old entries of the tensor. In a norm behind the layer,
a new output copies the parameters and statistics of a random old output (the plan's mapping draws it), because a
variance must be positive.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from ..base.magnitude import has_arithmetic
from .arithmetic import fill_new, normal
from .columns import Columns
from .registry import NewRows, register


@register
class RandomRows(NewRows):
    """New rows are normal, with the moments of the old rows."""

    name = "random_rows"
    moments = True
    source = "a normal distribution with the moments of the old rows"

    def produce(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        if not has_arithmetic(weight):  # integers and float8 stay gathered: copies of old rows
            return weight
        shape = list(weight.shape)
        shape[columns.dim] = len(columns.new)
        drawn = normal(torch.Size(shape), weight.new_empty(0, dtype=torch.float64), generator)
        return fill_new(weight, columns, drawn * columns.std + columns.mean)

    def bias(self, bias: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return self.produce(bias, columns, generator)
