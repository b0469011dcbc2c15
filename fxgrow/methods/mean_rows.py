"""Mean rows: each new output is the mean of the old outputs. For `Outputs`.

The mean over i of the logits w_i x + b_i is (mean of w_i) x + (mean of b_i). In a norm behind the layer, new entries of
every parameter and statistic are the mean of the old entries.
"""

from __future__ import annotations

from torch import Generator, Tensor

from .arithmetic import fill_new, mean_of_old
from .columns import Columns
from .registry import NewRows, register


@register
class MeanRows(NewRows):
    """New rows are the mean of the old rows."""

    name = "mean_rows"
    source = "Hewitt, Initializing New Word Embeddings for Pretrained Language Models (2021)"

    def produce(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return fill_new(weight, columns, mean_of_old(weight, columns))

    def bias(self, bias: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return fill_new(bias, columns, mean_of_old(bias, columns))

    def carry(self, tensor: Tensor, columns: Columns, generator: Generator, *, shift: bool) -> Tensor:
        return fill_new(tensor, columns, mean_of_old(tensor, columns))
