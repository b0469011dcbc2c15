"""What a method is, and the table of them.

Growing a dimension gathers it by its mapping g first, so new channels start as replicas. A method then
says what becomes of the new entries, in each of the two roles (produce and contract).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
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
    if name not in _METHODS:
        raise PlanError(f"no method {name!r}; there are {', '.join(names())}")
    return _METHODS[name]


def names() -> tuple[str, ...]:
    """The names of all methods."""
    return tuple(sorted(_METHODS))


def normal(shape: torch.Size, like: Tensor, generator: Generator) -> Tensor:
    """Standard normal numbers, drawn on the CPU so that every device gets the same, in like's dtype."""
    return torch.randn(shape, generator=generator, dtype=torch.float32).to(like)


def divide(weight: Tensor, columns: Columns, draws: Tensor | None) -> Tensor:
    """Split each replicated column V of a gathered weight into V_1 + ... + V_k = V, in place.

    V_j = V * s_j with s_j = draws_j / sum(draws), or 1/k without draws; the last replica takes the rest
    exactly as it rounds in the weight's dtype, so the sum is right to the last bit that the dtype has.

    Args:
        weight: Gathered along `columns.dim`.
        columns: The grown dimension.
        draws: Positive numbers of the shape of the replicated columns; None: all equal.
    """
    dim, index = columns.dim, columns.index
    counts = torch.bincount(index)
    many = torch.nonzero(counts[index] > 1).flatten()  # the columns that have replicas
    if not len(many):
        return weight
    old, group = torch.unique(index[many], return_inverse=True)
    last = torch.zeros(len(old), dtype=torch.int64).scatter_reduce_(
        0, group, torch.arange(len(many)), "amax", include_self=False
    )
    others = torch.ones(len(many), dtype=torch.bool)
    others[last] = False
    many, group, last, kept = (t.to(weight.device) for t in (many, group, last, torch.nonzero(others).flatten()))
    whole = weight.index_select(dim, many).double()
    shape = list(whole.shape)
    shape[dim] = len(old)
    if draws is None:
        share = (1.0 / counts[index][counts[index] > 1].double()).to(weight.device)
        share = share.reshape([-1 if d == dim else 1 for d in range(whole.ndim)])
    else:
        draws = draws.to(weight.device, torch.float64)
        totals = torch.zeros(shape, dtype=torch.float64, device=weight.device).index_add_(dim, group, draws)
        share = draws / totals.index_select(dim, group)
    parts = (whole * share).to(weight.dtype)
    sums = torch.zeros(shape, dtype=torch.float64, device=weight.device)
    sums.index_add_(dim, group[kept], parts.index_select(dim, kept).double())
    rest = whole.index_select(dim, last) - sums
    parts.index_copy_(dim, last, rest.to(weight.dtype))
    return weight.index_copy_(dim, many, parts)


def replicated_shape(weight: Tensor, columns: Columns) -> torch.Size:
    """The shape of the columns that have replicas."""
    shape = list(weight.shape)
    shape[columns.dim] = int((torch.bincount(columns.index)[columns.index] > 1).sum())
    return torch.Size(shape)
