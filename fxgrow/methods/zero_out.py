"""Random in, zero out: new producer rows are random, new consumer columns zero, so outputs are unchanged.

Preserves the function only where channels are combined by contraction alone. A mean, a norm or a maximum over channels
depends on the new ones, and so does all that follows a function that is not finite for some inputs: 0 * inf is nan.
The zero columns get gradients from the first step, the random rows from the second.

The variance of the new rows was measured (docs/design.md). In front of a batch norm the scale of the rows has no effect
on the output, but a gradient step rotates small rows more than large ones. There the variance is that of torch.nn's
default initialisation; elsewhere it is six times as large (He), which keeps the variance of the signal.
"""

from __future__ import annotations

from torch import Generator, Tensor

from .arithmetic import HE, TORCH, random_entries, silence
from .columns import Columns
from .registry import Method, register

RANDOM_BIAS = "random_bias"  # the same with rows of zeros


@register
class ZeroOut(Method):
    """Random rows, zero columns."""

    name = "zero_out"
    preserves_function = True
    replicas = False
    separable = True
    overwrites = True
    zero_columns = True
    source = "zero-initialised outgoing weights, as in Network Morphism (arXiv 1603.01670)"

    def chosen(self, *, replicas: bool, zero_rows: bool = False) -> str:
        return RANDOM_BIAS if zero_rows else self.name

    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return silence(weight, columns)

    def produce(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return random_entries(weight, columns, generator, TORCH if columns.normed else HE)
