"""Even split, plus noise of 5 % of the standard deviation of the shares. Does not preserve the function.

Public Net2Net scripts add this noise so that replicas get different gradients. Included as a baseline.
The standard deviation is that of all entries of the teacher's weight, over the number of replicas.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from .arithmetic import divide, normal
from .columns import Columns
from .registry import Method, register

RELATIVE_STD = 5e-2  # standard deviation of the noise, relative to that of the shares


@register
class Noise(Method):
    """Equal shares, plus normal noise on the new columns."""

    name = "noise"
    preserves_function = False
    replicas = True
    separable = True
    moments = True
    source = "the noise term of public Net2Wider scripts"

    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        weight = divide(weight, columns, lambda _, parts: (torch.ones(()), 1 / parts))
        part = weight.index_select(columns.dim, columns.new)
        shape = [-1 if dim == columns.dim else 1 for dim in range(part.ndim)]
        deviations = (RELATIVE_STD * columns.std / columns.parts).to(part).view(shape)
        noise = normal(part.shape, part, generator) * deviations
        return weight.index_copy_(columns.dim, columns.new, part + noise)
