"""The new part of a parameter, from those old rows that it copies. It has the bits of growing in memory.

A block of a tensor has its own random numbers, so the blocks that touch the new part are made, and of these only what
belongs to it is kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import GrowError
from ..model.partition import Partition, Range
from ..plans.entries import TensorPlan
from ..plans.growth_plan import Plan
from ..rewrite.block import Block, in_parts
from ..rewrite.extended import Division, extended
from ..rewrite.fill import Filling, methods_of
from ..rewrite.index_maps import Held
from .exchange import exchanged


class ShardFilling:
    """Fills the parts of parameters by one plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.filling = Filling(plan)

    def check(self, planned: TensorPlan, partition: Partition) -> None:
        """Whether a part can be made without the whole tensor.

        Raises:
            GrowError: It cannot; the message says why.
        """
        if partition.dim in planned.rows and self.filling.kept(planned):
            raise GrowError(
                f"{planned.name!r} is standardised over the dimension by which it is sharded, so that no process has "
                "its rows; grow the model before it is sharded"
            )
        odd = [how.name for how in methods_of(self.plan, planned) if not how.separable]
        if partition.dim is not None and odd:
            raise GrowError(
                f"{planned.name!r} is sharded, and method {odd[0]!r} does not say that it fills parts of tensors "
                "(separable); choose another method"
            )

    def __call__(self, planned: TensorPlan, local: Tensor, partition: Partition, target: Tensor) -> None:
        """Fill this process's new part; all processes call it for the same parameters in the same order.

        Args:
            planned: The parameter's part of the plan.
            local: This process's part of the teacher's.
            partition: How both are divided.
            target: This process's part of the student's, written in place.
        """
        if local.is_complex():
            self(in_parts(planned), torch.view_as_real(local), partition, torch.view_as_real(target))
            return
        if partition.dim is None:
            self._fill(planned, local, None, 0, (0, target.shape[0]), target)
            return
        dim, old = partition.dim, self.plan.old_size(planned.layouts[partition.dim])
        moments = self.filling.moments(planned, local, partition.reduce)
        division = Division(dim, old, partition.reduce)
        tensor, more = extended(local, self.filling.extensions(planned), division)
        index, _ = self.filling.index(planned, dim)
        needed = [index[start:stop].unique() for start, stop in partition.ranges(len(index))]
        rows = exchanged(tensor, partition, old, [one[one < old] for one in needed])
        if not target.numel():
            return
        if more is not None and bool((needed[partition.rank] == old).any()):
            rows = torch.cat([rows, more], dim)
        held = Held(dim, needed[partition.rank], moments)
        self._fill(planned, rows, held, dim, partition.own(len(index)), target)

    def _fill(self, planned: TensorPlan, rows: Tensor, held: Held | None, dim: int, own: Range, target: Tensor) -> None:
        shape = [self.plan.new_size(layout) for layout in planned.layouts]
        start, stop = own
        for block in self.filling.blocks(planned, rows, held):
            if block.along == dim and not (block.start < stop and start < block.stop):
                continue
            _fill_inside(block, shape, dim, own, target)


def _fill_inside(block: Block, shape: list[int], dim: int, own: Range, target: Tensor) -> None:
    """Fill what a block and the own part have in common."""
    start, stop = own
    first, last = (block.start, block.stop) if block.along == dim else (0, shape[dim])
    there = target if block.along == dim else block.of(target)
    inside = (max(start, first), min(stop, last))
    there = there.narrow(dim, inside[0] - start, inside[1] - inside[0])
    if inside == (first, last):
        block.fill(there)
        return
    size = list(there.shape)
    size[dim] = last - first
    made = torch.empty(size, dtype=target.dtype, device=target.device)
    block.fill(made)
    there.copy_(made.narrow(dim, inside[0] - first, inside[1] - inside[0]))
