"""The grown dimension of a tensor: which entries are new, which old one each copies, and access to ranges of them.

In: the index map of a dimension. Out: positions of entries, as ranges where they are contiguous (no copy is made then),
and the order in which replicas take their share of the entry that they copy.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

CPU = torch.device("cpu")

MAX_RANGES = 8  # positions that form this many ranges or more are used as one index tensor, which is as fast
Where = slice | Tensor  # positions along a dimension: a range, or int64 of shape (n,)


@dataclass(frozen=True)
class Columns:
    """One grown dimension of a weight.

    Attributes:
        dim: The dimension.
        index: The old index that each new index copies, int64, shape (new,).
        original: Whether an entry is the old one rather than a replica, bool, shape (new,).
        device: The device of the weight.
        normed: Whether a batch norm follows the layer that produces the dimension, so that the scale of its weight
            has no effect.
        fan_in: The entries of the whole weight per index of its first dimension; 0 where nothing says.
        mean: The mean of all entries of the teacher's tensor, for methods that ask for it (`Method.moments`).
        std: Their standard deviation.
    """

    dim: int
    index: Tensor
    original: Tensor
    device: torch.device = CPU
    normed: bool = False
    fan_in: int = 0
    mean: float = 0.0
    std: float = 1.0

    def within(self, start: int, stop: int) -> Columns:
        """The same of the entries from `start` to `stop` alone, in their own count."""
        return replace(self, index=self.index[start:stop], original=self.original[start:stop])

    @cached_property
    def count(self) -> int:
        """The number of new entries."""
        return int((~self.original).sum())

    @cached_property
    def parts(self) -> Tensor:
        """Of each new entry the number of entries that copy the same old one, including that, int64."""
        return torch.bincount(self.index)[self.index[~self.original]]

    @cached_property
    def new(self) -> Tensor:
        """The positions of the new entries, int64, on the weight's device."""
        return torch.nonzero(~self.original).flatten().to(self.device)

    @cached_property
    def new_at(self) -> Where:
        """The positions of the new entries, as a range if they are contiguous."""
        new = torch.nonzero(~self.original).flatten()
        return where(new, self.device) if len(new) else new

    @cached_property
    def rounds(self) -> tuple[Round, ...]:
        """The rounds in which replicas take their shares: the last replica of each old entry first."""
        index = self.index
        order = torch.argsort(index, stable=True)  # replicas of one old entry are adjacent
        counts = torch.bincount(index)
        starts = (torch.cumsum(counts, 0) - counts)[index[order]]
        rank, first = torch.empty_like(order), torch.empty_like(order)
        rank[order] = torch.arange(len(index)) - starts  # 0 for the first replica, which keeps the remainder
        first[order] = order[starts]
        rounds: list[Round] = []
        for part in range(int(rank.max()), 0, -1):
            here = torch.nonzero(rank == part).flatten()
            rounds.append(Round(len(here), part + 1, _pieces(here, first[here], self.device)))
        return tuple(rounds)


@dataclass(frozen=True, slots=True)
class Round:
    """One replica of each old entry that has enough of them; these take their shares at the same time.

    Attributes:
        number: The number of replicas in the round.
        parts: The number of parts that the remainder is still to be divided into, including this one.
        pieces: (positions of replicas, positions of the entries that they take their share from, number of them),
            one after the other.
    """

    number: int
    parts: int
    pieces: tuple[tuple[Where, Where, int], ...]


def _pieces(here: Tensor, rest: Tensor, device: torch.device) -> tuple[tuple[Where, Where, int], ...]:
    """Two equally long lists of positions as pairs of ranges; as one pair of index tensors if the ranges are many."""
    breaks = torch.nonzero((here.diff() != 1) | (rest.diff() != 1)).flatten().tolist()
    if len(breaks) >= MAX_RANGES:
        return ((where(here, device), where(rest, device), len(here)),)
    bounds = itertools.pairwise([0, *(at + 1 for at in breaks), len(here)])
    starts = [(int(here[a]), int(rest[a]), b - a) for a, b in bounds]
    return tuple([(slice(to, to + n), slice(source, source + n), n) for to, source, n in starts])


def where(positions: Tensor, device: torch.device) -> Where:
    """Positions (int64, on the CPU) for use on a device; a range if they are contiguous."""
    start, number = int(positions[0]), len(positions)
    if torch.equal(positions, torch.arange(start, start + number)):
        return slice(start, start + number)
    return positions.to(device)


def take(tensor: Tensor, dim: int, at: Where) -> Tensor:
    """The entries of a dimension at some positions: a view if they are a range, else a copy."""
    return tensor.narrow(dim, at.start, at.stop - at.start) if isinstance(at, slice) else tensor.index_select(dim, at)


def put(tensor: Tensor, dim: int, at: Where, entries: Tensor) -> None:
    """Write the entries of a dimension at some positions, in place."""
    if isinstance(at, slice):
        tensor.narrow(dim, at.start, at.stop - at.start).copy_(entries)
    else:
        tensor.index_copy_(dim, at, entries)
