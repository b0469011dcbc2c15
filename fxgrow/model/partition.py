"""How a DTensor is divided among processes, and which rows each of them has for any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from ..base.exact_sum import Reduce
from ..base.loaded import dtensors
from ..errors import GrowError

Range = tuple[int, int]  # the first entry, and the one behind the last


@dataclass(frozen=True, slots=True)
class Partition:
    """How tensors of one placement are divided.

    Attributes:
        mesh: The mesh of devices.
        placements: One for each of its dimensions.
        dim: The dimension of the tensor that is divided; None where every process has the whole tensor.
        group: The processes among which it is divided.
        rank: The place of this process among them.
        number: How many they are.
    """

    mesh: Any
    placements: tuple[Any, ...]
    dim: int | None
    group: Any
    rank: int
    number: int

    def ranges(self, size: int) -> list[Range]:
        """What each process has of a dimension of a size, as `torch.chunk` divides it."""
        step = -(-size // self.number)
        return [(min(rank * step, size), min((rank + 1) * step, size)) for rank in range(self.number)]

    def own(self, size: int) -> Range:
        """What this process has of it."""
        return self.ranges(size)[self.rank]

    def local_shape(self, shape: tuple[int, ...]) -> torch.Size:
        """The shape of this process's part of a tensor."""
        if self.dim is None:
            return torch.Size(shape)
        start, stop = self.own(shape[self.dim])
        return torch.Size([*shape[: self.dim], stop - start, *shape[self.dim + 1 :]])

    @property
    def reduce(self) -> Reduce:
        """The reduction of numbers over all parts of a tensor."""

        def reduced(numbers: Tensor, how: Literal["max", "sum"]) -> Tensor:
            if self.dim is not None and self.number > 1:
                dist.all_reduce(numbers, dist.ReduceOp.MAX if how == "max" else dist.ReduceOp.SUM, group=self.group)
            return numbers

        return reduced


def partition_of(tensor: Any, name: str) -> Partition:
    """How a DTensor is divided.

    Raises:
        GrowError: In another way than along one dimension, evenly by rows; the message names it.
    """
    mesh, placements = tensor.device_mesh, tuple(tensor.placements)
    divided = [(at, one) for at, one in enumerate(placements) if type(one) is dtensors().Shard]
    copied = [one for one in placements if type(one) is dtensors().Replicate]
    if len(divided) > 1 or len(divided) + len(copied) < len(placements):
        raise GrowError(
            f"{name!r} is placed as {placements}; only what is divided along one dimension of the mesh grows: "
            "with tensor parallelism, grow the model before parallelize_module and fully_shard"
        )
    if not divided:
        return Partition(mesh, placements, None, None, 0, 1)
    at, shard = divided[0]
    return Partition(
        mesh, placements, shard.dim % tensor.ndim, mesh.get_group(at), mesh.get_local_rank(at), mesh.size(at)
    )


def local_part(tensor: Any) -> Tensor:
    """This process's part of a DTensor, without a history."""
    part: Tensor = tensor.detach().to_local()
    return part


def give_back(tensor: Any) -> None:
    """Give the memory of this process's part back. The tensor and its views cannot be read afterwards."""
    local_part(tensor).untyped_storage().resize_(0)


def as_dtensor(local: Tensor, partition: Partition, shape: torch.Size) -> Tensor:
    """The DTensor of this process's part; nothing is sent."""
    stride = torch.empty(shape, device="meta").stride()
    made: Tensor = dtensors().DTensor.from_local(
        local, partition.mesh, partition.placements, run_check=False, shape=shape, stride=stride
    )
    return made
