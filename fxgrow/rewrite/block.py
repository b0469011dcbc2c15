"""A part of a new tensor, and a complex tensor as a real one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..base.roles import Role
from ..layouts.layout import fixed
from ..plans.entries import TensorPlan


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a new tensor.

    Attributes:
        along: The dimension along which the tensor is cut.
        start: The first entry of the part.
        stop: The one behind its last.
        fill: Fills a tensor of the part's shape.
    """

    along: int
    start: int
    stop: int
    fill: Callable[[Tensor], None]

    def of(self, whole: Tensor) -> Tensor:
        """The part in the whole tensor."""
        return whole.narrow(self.along, self.start, self.stop - self.start)


def in_parts(planned: TensorPlan) -> TensorPlan:
    """The plan of a complex tensor as a real one, whose last dimension holds the real and the imaginary part."""
    role: Role = "carry" if "carry" in planned.roles else "contract"  # it is never the one along which blocks are cut
    mean_fill = (*planned.mean_fill, "") if planned.mean_fill else ()
    return replace(planned, layouts=(*planned.layouts, fixed(2)), roles=(*planned.roles, role), mean_fill=mean_fill)


def of_parts(block: Block) -> Block:
    """The block of a complex tensor, by that of the real one."""

    def fill(target: Tensor) -> None:
        block.fill(torch.view_as_real(target))

    return replace(block, fill=fill)
