"""Random init: new rows and new columns drawn as for a fresh layer (He), a baseline that forgets the function."""

from __future__ import annotations

from torch import Generator, Tensor

from .registry import Columns, Method, random_entries, register, silence


@register
class RandomInit(Method):
    """Fresh rows and columns."""

    name = "random_init"
    preserves_function = False
    replicas = False
    source = "He et al., arXiv 1502.01852"

    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return random_entries(weight, columns, generator)

    def produce(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return random_entries(weight, columns, generator)

    def bias(self, bias: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return silence(bias, columns)
