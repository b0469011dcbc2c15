"""Zero rows: a new output is 0 until it is trained. For `Outputs`.

Where a norm follows, its shift and its running mean are 0 there as well, and its scale and running variance the
mean of the old ones: with a scale of zeros, too, no gradient would reach the rows.
"""

from __future__ import annotations

from torch import Generator, Tensor

from .registry import Columns, NewRows, fill_new, mean_of_old, register, silence


@register
class ZeroRows(NewRows):
    """Rows of zeros."""

    name = "zero_rows"
    source = "zero-initialised heads, as in progressive fine-tuning"

    def produce(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return silence(weight, columns)

    def bias(self, bias: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return silence(bias, columns)

    def carry(self, tensor: Tensor, columns: Columns, generator: Generator, *, shift: bool) -> Tensor:
        if shift:
            return silence(tensor, columns)
        return fill_new(tensor, columns, mean_of_old(tensor, columns))
