"""Random in, zero out: new channels compute something new, and nobody listens to them yet.

Exact only where channels meet by contraction alone: a mean, a norm or a maximum over channels would hear the new ones,
and so would all that lies behind a function that is infinite somewhere, since 0 times that is nan. The consumer's zero
columns get gradients from the first step, the producer's rows after it.

How large the new rows are was measured (docs/design.md). Behind a batch norm their size is no part of the function, but
the smaller they are, the further a step turns them: there their variance is that of torch.nn's own, elsewhere six times
as much, which keeps the size of a signal.
"""

from __future__ import annotations

from torch import Generator, Tensor

from .registry import HE, TORCH, Columns, Method, random_entries, register, silence


@register
class ZeroOut(Method):
    """Fresh rows, and columns of zeros."""

    name = "zero_out"
    preserves_function = True
    replicas = False
    source = "zero-initialised outgoing weights, as in Network Morphism (arXiv 1603.01670)"

    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return silence(weight, columns)

    def produce(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return random_entries(weight, columns, generator, TORCH if columns.normed else HE)
