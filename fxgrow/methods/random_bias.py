"""Zero rows and columns, random positive biases: for weights that are divided by a norm over all of their entries.

Such a norm (the largest singular value in `spectral_norm`, the length of the whole weight in `weight_norm(dim=None)`)
changes with any new row that is not zero, and not with rows of zeros. A new channel then gives its bias alone. So
biases, and the shifts of norms, are random: with a bias of zero, neither the row nor the columns would get a gradient.
They are positive: with a negative one, a ReLU would be off for every input. The columns get a gradient from the first
step, the rows from the second.
"""

from __future__ import annotations

from torch import Generator, Tensor

from .arithmetic import fill_new, random_entries, silence
from .columns import Columns, take
from .registry import Method, register

LARGEST = 0.2  # of new biases


@register
class RandomBias(Method):
    """Zero rows, zero columns, random biases. Chosen by "auto" and "zero_out" where rows must be zero."""

    name = "random_bias"
    preserves_function = True
    replicas = False
    separable = True
    overwrites = True
    carries = True
    offered = False
    zero_columns = True
    zero_rows = True
    source = "zero-initialised weights, as in Network Morphism (arXiv 1603.01670)"

    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return silence(weight, columns)

    def produce(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return silence(weight, columns)

    def bias(self, bias: Tensor, columns: Columns, generator: Generator) -> Tensor:
        bias = random_entries(bias, columns, generator, max(1, columns.fan_in) * LARGEST**2 / 3)
        return fill_new(bias, columns, take(bias, columns.dim, columns.new_at).abs())

    def carry(self, tensor: Tensor, columns: Columns, generator: Generator, *, shift: bool) -> Tensor:
        return self.bias(tensor, columns, generator) if shift else tensor
