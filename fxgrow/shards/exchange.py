"""Rows of a divided tensor to the processes that need them: one all-to-all, of no row that stays where it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from ..model.partition import Partition


def exchanged(local: Tensor, partition: Partition, size: int, needed: Sequence[Tensor]) -> Tensor:
    """The rows that this process needs, in their order; "rows" are entries along the divided dimension.

    Args:
        local: This process's part.
        partition: How the tensor is divided.
        size: The whole tensor's size along that dimension.
        needed: For each process the rows that it needs, sorted, int64, on the CPU.
    """
    dim, mine = partition.dim, partition.rank
    assert dim is not None
    ranges = partition.ranges(size)
    start, stop = ranges[mine]
    here = [rows[(rows >= start) & (rows < stop)] - start for rows in needed]
    own = _rows(local, here[mine], dim)
    others = [rank for rank in range(partition.number) if rank != mine]
    given = [int(((needed[mine] >= a) & (needed[mine] < b)).sum()) for a, b in ranges]
    if not any(map(len, _strangers(needed, ranges))):  # every process knows this of all
        return own
    row = torch.Size([*local.shape[:dim], *local.shape[dim + 1 :]]).numel() * local.element_size()
    sent = [_bytes(_rows(local, here[rank], dim).movedim(dim, 0)) for rank in others]
    counts = [0 if rank == mine else len(here[rank]) * row for rank in range(partition.number)]
    expected = [0 if rank == mine else number * row for rank, number in enumerate(given)]
    buffer = torch.cat([*sent, torch.empty(0, dtype=torch.uint8, device=local.device)])
    received = torch.empty(sum(expected), dtype=torch.uint8, device=local.device)
    dist.all_to_all_single(received, buffer, expected, counts, group=partition.group)
    parts = [
        own.movedim(dim, 0) if rank == mine else _typed(part, given[rank], local, dim)
        for rank, part in enumerate(received.split(expected))
    ]
    return torch.cat(parts).movedim(0, dim)


def _strangers(needed: Sequence[Tensor], ranges: Sequence[tuple[int, int]]) -> list[Tensor]:
    """The rows that each process needs and does not have."""
    return [rows[(rows < a) | (rows >= b)] for rows, (a, b) in zip(needed, ranges, strict=True)]


def _rows(local: Tensor, rows: Tensor, dim: int) -> Tensor:
    if len(rows) == local.shape[dim] and torch.equal(rows, torch.arange(len(rows))):
        return local
    return local.index_select(dim, rows.to(local.device))


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _typed(received: Tensor, number: int, local: Tensor, dim: int) -> Tensor:
    """Rows, the first dimension, of bytes; copied where their place in memory does not fit their type."""
    shape = [*local.shape[:dim], *local.shape[dim + 1 :]]
    if received.storage_offset() % local.element_size():
        received = received.clone()
    return received.view(local.dtype).view(number, *shape)
