"""Random pad: new weights normal with standard deviation 0.1, new biases 0.1. Does not preserve the function."""

from __future__ import annotations

from torch import Generator, Tensor

from ..base.magnitude import has_arithmetic
from .arithmetic import normal
from .columns import Columns
from .registry import Method, register

STD = BIAS = 0.1


@register
class RandomPad(Method):
    """Small random rows and columns."""

    name = "random_pad"
    preserves_function = False
    replicas = False
    separable = True
    source = "the random-pad baseline of a public Keras script"

    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        if not has_arithmetic(weight):  # integers and float8 stay gathered
            return weight
        part = weight.index_select(columns.dim, columns.new)
        return weight.index_copy_(columns.dim, columns.new, normal(part.shape, part, generator) * STD)

    def produce(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return self.contract(weight, columns, generator)

    def bias(self, bias: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return bias.index_fill_(columns.dim, columns.new, BIAS) if has_arithmetic(bias) else bias
