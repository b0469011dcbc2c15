"""Mean rows: each new output is the mean of the old outputs. For `Outputs`.

The mean over i of the logits w_i x + b_i is (mean of w_i) x + (mean of b_i). In a norm behind the layer, new entries of
every parameter and statistic are the mean of the old entries.
"""

from __future__ import annotations

from .registry import NewRows, Part, register


@register
class MeanRows(NewRows):
    """New rows are the mean of the old rows."""

    name = "mean_rows"
    source = "Hewitt, Initializing New Word Embeddings for Pretrained Language Models (2021)"

    def begins_as_mean(self, part: Part, *, shift: bool = False) -> bool:
        return True
