"""The state that an optimizer keeps for a parameter that is a DTensor, grown from the rows that the new part copies."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from ..errors import GrowError
from ..model.partition import Partition, as_dtensor, local_part, partition_of
from ..model.sharded import is_dtensor
from ..plans.entries import TensorPlan
from ..rewrite.index_maps import Held
from ..state.moments import Axis, Grow, Moment, MomentFilling, grown, start_of
from .exchange import exchanged


class ShardMoments(MomentFilling):
    """Grows the state of parameters by the widths of one plan, part by part."""

    def of(self, planned: TensorPlan) -> Grow:
        """The function that grows the state of one parameter; every process calls it for the same tensors."""
        whole = super().of(planned)

        def grow(tensor: Tensor, moment: Moment, reduced: Collection[int] = ()) -> Tensor:
            if not is_dtensor(tensor):
                return whole(tensor, moment, reduced)
            if reduced:
                raise GrowError(f"means over the rows of {planned.name!r}, which is sharded, are not known to grow")
            partition = partition_of(tensor, f"the state of {planned.name}")
            axes, gain = self.axes(planned), self.gain(planned)
            start = start_of(tensor, moment, axes)
            shape = torch.Size([self.plan.new_size(layout) for layout in planned.layouts])
            local = local_part(tensor)
            if partition.dim in axes:
                local, axes[partition.dim] = _own(local, axes[partition.dim], partition, tensor.shape[partition.dim])
            new = grown(local, moment, axes, gain, start)
            return as_dtensor(new, partition, shape)

        return grow


def _own(local: Tensor, axis: Axis, partition: Partition, size: int) -> tuple[Tensor, Axis]:
    """The old rows that this process's new ones copy, and how these do."""
    assert partition.dim is not None
    ranges = partition.ranges(len(axis.index))
    copying = [torch.arange(a, b)[~axis.fresh[a:b]] for a, b in ranges]
    needed = [axis.index[rows].unique() for rows in copying]
    rows, held = exchanged(local, partition, size, needed), needed[partition.rank]
    if not len(held):  # all of its rows are fresh, or it has none
        shape = list(local.shape)
        shape[partition.dim] = 1
        rows, held = local.new_zeros(shape), torch.zeros(1, dtype=torch.int64)
    start, stop = ranges[partition.rank]
    index = Held(partition.dim, held).positions(axis.index[start:stop])
    return rows, Axis(index, axis.shares[start:stop], axis.fresh[start:stop])
