"""Random pad: new weights from N(0, 0.1), new biases 0.1; the baseline of a public Keras script. Not exact."""

from __future__ import annotations

from torch import Generator, Tensor

from .registry import Columns, Method, normal, register

AMOUNT = 0.1


@register
class RandomPad(Method):
    """Small random rows and columns."""

    name = "random_pad"
    preserves_function = False
    replicas = False
    source = "the random-pad baseline of a public Keras script"

    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        part = weight.index_select(columns.dim, columns.new)
        return weight.index_copy_(columns.dim, columns.new, normal(part.shape, part, generator) * AMOUNT)

    def produce(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return self.contract(weight, columns, generator)

    def bias(self, bias: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return bias.index_fill_(columns.dim, columns.new, AMOUNT)
