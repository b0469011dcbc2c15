"""Zero rows: new outputs are 0 until they are trained. For `Outputs`.

In a norm behind the layer, new entries of the shift and the running mean are 0; new entries of the scale and the
running variance are the mean of the old ones. With a scale of 0 the rows would get no gradient.
"""

from __future__ import annotations

from torch import Generator, Tensor

from .arithmetic import silence
from .columns import Columns
from .registry import NewRows, Part, register


@register
class ZeroRows(NewRows):
    """New rows are zero."""

    name = "zero_rows"
    zero_rows = True
    source = "zero-initialised heads, as in progressive fine-tuning"

    def produce(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return silence(weight, columns)

    def bias(self, bias: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return silence(bias, columns)

    def carry(self, tensor: Tensor, columns: Columns, generator: Generator, *, shift: bool) -> Tensor:
        return silence(tensor, columns) if shift else tensor

    def begins_as_mean(self, part: Part, *, shift: bool = False) -> bool:
        return part == "carry" and not shift
