"""Mean rows: a new output is the mean of the old ones. For `Outputs`.

The mean of logits w_i x + b_i is the logit of the mean of w_i and of b_i. Of a norm that follows, every parameter
and statistic is the mean of the old ones.
"""

from __future__ import annotations

from torch import Generator, Tensor

from .registry import Columns, NewRows, fill_new, mean_of_old, register


@register
class MeanRows(NewRows):
    """The mean of the old rows."""

    name = "mean_rows"
    source = "Hewitt, Initializing New Word Embeddings for Pretrained Language Models (2021)"

    def produce(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return fill_new(weight, columns, mean_of_old(weight, columns))

    def bias(self, bias: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return fill_new(bias, columns, mean_of_old(bias, columns))

    def carry(self, tensor: Tensor, columns: Columns, generator: Generator, *, shift: bool) -> Tensor:
        return fill_new(tensor, columns, mean_of_old(tensor, columns))
