"""Random init: new rows and columns with He initialisation. Does not preserve the function; a baseline."""

from __future__ import annotations

from torch import Generator, Tensor

from .arithmetic import random_entries, silence
from .columns import Columns
from .registry import Method, register


@register
class RandomInit(Method):
    """Rows and columns as in a newly initialised layer."""

    name = "random_init"
    preserves_function = False
    replicas = False
    separable = True
    source = "He et al., arXiv 1502.01852"

    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return random_entries(weight, columns, generator)

    def produce(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return random_entries(weight, columns, generator)

    def bias(self, bias: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return silence(bias, columns)
