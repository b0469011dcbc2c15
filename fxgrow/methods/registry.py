"""What a method is, and the table of them.

Growing a dimension gathers it by its mapping g first, so new channels start as replicas. A method then
says what becomes of the new entries, in each of the two roles (produce and contract).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..errors import PlanError


@dataclass(frozen=True, slots=True)
class Columns:
    """One grown dimension of a weight.

    Attributes:
        dim: The dimension.
        index: The old index that each new one copies, int64, shape (new,).
        original: Whether it is the old entry itself, bool, shape (new,).
    """

    dim: int
    index: Tensor
    original: Tensor

    @property
    def new(self) -> Tensor:
        """The positions of the new entries, int64."""
        return torch.nonzero(~self.original).flatten()


class Method(ABC):
    """How new channels are filled.

    Attributes:
        name: What users call it.
        exact: Whether the student computes what the teacher computes.
        replicas: Whether new channels are replicas, so that means, norms and maxima over channels allow it.
        source: The paper or code that it comes from.
    """

    name: str
    exact: bool
    replicas: bool
    source: str

    @abstractmethod
    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        """A gathered weight whose grown dimension is summed over: make replicas sum to the original.

        Args:
            weight: The gathered weight, any floating dtype; may be changed and returned.
            columns: The grown dimension.
            generator: On the CPU, the only source of randomness.
        """

    def produce(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        """A gathered weight whose grown dimension is made by it (not norms, which stay gathered)."""
        return weight

    def bias(self, bias: Tensor, columns: Columns, generator: Generator) -> Tensor:
        """The gathered bias of such a weight."""
        return bias


_METHODS: dict[str, Method] = {}


def register(cls: type[Method]) -> type[Method]:
    """Add a method to the table, under its name."""
    if cls.name in _METHODS:
        raise ValueError(f"there is a method {cls.name!r} already")
    _METHODS[cls.name] = cls()
    return cls


def method(name: str) -> Method:
    """The method of a name.

    Raises:
        PlanError: There is none.
    """
    if not isinstance(name, str) or name not in _METHODS:
        raise PlanError(f"no method {name!r}; there are {', '.join(names())}")
    return _METHODS[name]


def names() -> tuple[str, ...]:
    """The names of all methods."""
    return tuple(sorted(_METHODS))


def normal(shape: torch.Size, like: Tensor, generator: Generator) -> Tensor:
    """Standard normal numbers, drawn on the CPU so that every device gets the same, in like's dtype."""
    return torch.randn(shape, generator=generator, dtype=torch.float32).to(like)


def he_rows(weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
    """The new entries of a dimension drawn from N(0, 2 / fan_in), in place (He et al., arXiv 1502.01852)."""
    fan_in = max(1, weight[0].numel()) if weight.ndim > 1 else 1
    new = columns.new.to(weight.device)
    part = weight.index_select(columns.dim, new)
    return weight.index_copy_(columns.dim, new, normal(part.shape, part, generator) * math.sqrt(2.0 / fan_in))


def divide(weight: Tensor, columns: Columns, fraction: Callable[[torch.Size, int], Tensor | float]) -> Tensor:
    """Split each replicated column V of a gathered weight into V_1 + ... + V_k = V, in place.

    Breaks one part off after the other: V_k = V * f, then V_(k-1) = (V - V_k) * f', ...; what is left is V_1.
    Each part is first rounded to a multiple of the last bit of what it is taken from, (p + V) - V in the
    weight's own dtype, so that V - p has no rounding at all: the parts sum to V exactly, in every dtype.

    Args:
        weight: Gathered along `columns.dim`.
        columns: The grown dimension.
        fraction: For the shape of a part and the number of parts left (with this one), the share of the rest
            that it gets.
    """
    dim, index = columns.dim, columns.index
    order = torch.argsort(index, stable=True)  # replicas of one old column side by side
    counts = torch.bincount(index)
    starts = (torch.cumsum(counts, 0) - counts)[index[order]]
    rank = torch.arange(len(index)) - starts  # 0 for the first of them, which keeps the rest
    first = order[starts]
    for part in range(int(rank.max()), 0, -1):
        chosen = rank == part
        here, rest_at = order[chosen].to(weight.device), first[chosen].to(weight.device)
        rest = weight.index_select(dim, rest_at)
        share = fraction(rest.shape, part + 1)
        piece = (rest * (share.to(rest.device) if isinstance(share, Tensor) else share)).to(weight.dtype)
        rounded = (piece + rest) - rest
        piece = torch.where(rounded.isfinite(), rounded, piece)  # twice the largest numbers overflows
        weight.index_copy_(dim, here, piece)
        weight.index_copy_(dim, rest_at, rest.sub_(piece))
    return weight
