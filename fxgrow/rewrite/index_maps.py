"""Which entries of a teacher's tensor the new ones copy, as ranges where these are few."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MANY = 64  # runs of an index map, from which on they are no faster than an index

Moments = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Held:
    """Which entries of a teacher's tensor are there, where others are not.

    Attributes:
        dim: The dimension.
        old: The entries along it that are, sorted, int64, at least one; the tensor's size stands for its extension.
        moments: The mean and the standard deviation of the whole tensor, where they are needed.
    """

    dim: int
    old: Tensor
    moments: Moments | None = None

    def positions(self, index: Tensor) -> Tensor:
        """Where the entries of an index are among those that are there; 0 for one that is not."""
        at = torch.searchsorted(self.old, index).clamp_(max=len(self.old) - 1)
        return at.masked_fill_(self.old[at] != index, 0)


class IndexMap:
    """The index map of one layout, for use on one device.

    Attributes:
        index: As `Plan.index` gives it, on the CPU.
        original: The same.
        there: The index on the device.
        runs: Which ranges of new entries are which ranges of old ones, as (start, start of the old ones, number);
            empty where they would be many.
        old: The same of the original entries alone.
    """

    def __init__(self, index: Tensor, original: Tensor, device: torch.device) -> None:
        self.index, self.original, self.there = index, original, index.to(device)
        positions = torch.arange(len(index))
        self.runs = _runs(positions, index)
        self.old = _runs(positions[original], index[original])

    def of(self, held: Held) -> IndexMap:
        """The same for a tensor of which only some entries are there."""
        return IndexMap(held.positions(self.index), self.original, self.there.device)

    def within(self, size: int) -> IndexMap:
        """The same for a tensor without the entry behind its last, in whose place the last is copied."""
        return IndexMap(self.index.clamp(max=size - 1), self.original, self.there.device)

    def gather(self, source: Tensor, dim: int, start: int = 0, stop: int | None = None) -> Tensor:
        """The new entries from `start` to `stop` along a dimension: a view where they are one range of old ones."""
        inside = within(self.runs, start, len(self.index) if stop is None else stop)
        if len(inside) == 1:
            return source.narrow(dim, inside[0][1], inside[0][2])
        return source.index_select(dim, self.there[start:stop])


Run = tuple[int, int, int]  # (start among the new entries, start among the old ones, number)


def _runs(positions: Tensor, index: Tensor) -> tuple[Run, ...]:
    if not len(index):
        return ()
    seams = torch.nonzero((index.diff() != 1) | (positions.diff() != 1)).flatten().tolist()
    if len(seams) >= MANY:
        return ()
    bounds = itertools.pairwise([0, *(seam + 1 for seam in seams), len(index)])
    return tuple([(int(positions[a]), int(index[a]), b - a) for a, b in bounds])


def within(runs: Sequence[Run], start: int, stop: int) -> list[Run]:
    """The parts of runs that lie in a range of new entries, counted from its start."""
    inside: list[Run] = []
    for new, old, number in runs:
        first, last = max(new, start), min(new + number, stop)
        if first < last:
            inside.append((first - start, old + first - new, last - first))
    return inside
