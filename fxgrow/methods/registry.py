"""What a method is, and the table of them.

Growing a dimension gathers it by its mapping g first, so new channels start as replicas. A method then
says what becomes of the new entries, in each of the two roles (produce and contract).
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Generator, Tensor

from ..errors import PlanError

CPU = torch.device("cpu")

MANY = 8  # runs of positions, from which on they are no faster than an index
Where = slice | Tensor  # positions along a dimension: a range, which needs no copy, or int64 of shape (n,)


@dataclass(frozen=True)
class Columns:
    """One grown dimension of a weight.

    Attributes:
        dim: The dimension.
        index: The old index that each new one copies, int64, shape (new,).
        original: Whether it is the old entry itself, bool, shape (new,).
        device: Where the weight is.
        normed: Whether a batch norm follows where it is made, so that the scale of what makes it does not count.
    """

    dim: int
    index: Tensor
    original: Tensor
    device: torch.device = CPU
    normed: bool = False

    @cached_property
    def new(self) -> Tensor:
        """The positions of the new entries, int64, on the weight's device."""
        return torch.nonzero(~self.original).flatten().to(self.device)

    @cached_property
    def new_at(self) -> Where:
        """The same, as a range where they are one."""
        new = torch.nonzero(~self.original).flatten()
        return where(new, self.device) if len(new) else new

    @cached_property
    def rounds(self) -> tuple[Round, ...]:
        """How replicas are broken off, the last ones first."""
        index = self.index
        order = torch.argsort(index, stable=True)  # replicas of one old column side by side
        counts = torch.bincount(index)
        starts = (torch.cumsum(counts, 0) - counts)[index[order]]
        rank, first = torch.empty_like(order), torch.empty_like(order)
        rank[order] = torch.arange(len(index)) - starts  # 0 for the first of them, which keeps the rest
        first[order] = order[starts]
        found: list[Round] = []
        for part in range(int(rank.max()), 0, -1):
            here = torch.nonzero(rank == part).flatten()
            fresh = bool((counts[index[here]] == part + 1).all())
            found.append(Round(len(here), part + 1, fresh, _pieces(here, first[here], self.device)))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Round:
    """Replicas that are broken off together, one of each old entry that still has some.

    Attributes:
        number: How many.
        parts: The number of parts left of each entry, with this one.
        fresh: Whether nothing has been taken from any of these entries yet.
        pieces: Replicas, the entries that they are taken from, and how many they are, one after the other.
    """

    number: int
    parts: int
    fresh: bool
    pieces: tuple[tuple[Where, Where, int], ...]


def _pieces(here: Tensor, rest: Tensor, device: torch.device) -> tuple[tuple[Where, Where, int], ...]:
    """Two equally long lists of positions as pairs of ranges, which need no copies; as they are if those are many."""
    seams = torch.nonzero((here.diff() != 1) | (rest.diff() != 1)).flatten().tolist()
    if len(seams) >= MANY:
        return ((where(here, device), where(rest, device), len(here)),)
    bounds = itertools.pairwise([0, *(seam + 1 for seam in seams), len(here)])
    starts = [(int(here[a]), int(rest[a]), b - a) for a, b in bounds]
    return tuple([(slice(to, to + n), slice(of, of + n), n) for to, of, n in starts])


def where(positions: Tensor, device: torch.device) -> Where:
    """Positions (int64, on the CPU) for use on a device; as a range where they are one."""
    start, number = int(positions[0]), len(positions)
    if torch.equal(positions, torch.arange(start, start + number)):
        return slice(start, start + number)
    return positions.to(device)


def take(tensor: Tensor, dim: int, at: Where) -> Tensor:
    """The entries of a dimension at some positions: a view where they are a range."""
    return tensor.narrow(dim, at.start, at.stop - at.start) if isinstance(at, slice) else tensor.index_select(dim, at)


def put(tensor: Tensor, dim: int, at: Where, entries: Tensor) -> None:
    """Write entries of a dimension."""
    if isinstance(at, slice):
        tensor.narrow(dim, at.start, at.stop - at.start).copy_(entries)
    else:
        tensor.index_copy_(dim, at, entries)


class Method(ABC):
    """How new channels are filled.

    Attributes:
        name: What users call it.
        preserves_function: Whether the student computes what the teacher computes.
        replicas: Whether new channels are replicas, so that means, norms and maxima over channels allow it.
        separable: Whether it only changes weights that contract, each index of the other dimensions by itself, so
            that it can be given a weight part by part.
        carries: Whether it fills tensors that only carry a width, too (of a norm); otherwise these stay gathered.
        offered: Whether users can ask for it by name.
        source: The paper or code that it comes from.
    """

    name: str
    preserves_function: bool
    replicas: bool
    separable: bool = False
    carries: bool = False
    offered: bool = True
    source: str

    def chosen(self, *, replicas: bool) -> str:
        """The method that a plan names for a width.

        Args:
            replicas: Whether the width's new channels have to be replicas.
        """
        return self.name

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

    def carry(self, tensor: Tensor, columns: Columns, generator: Generator, *, shift: bool) -> Tensor:
        """A gathered tensor that only carries it (of a norm behind such a weight).

        Args:
            tensor: The gathered tensor, of any dtype; may be changed and returned.
            columns: The grown dimension.
            generator: On the CPU, the only source of randomness.
            shift: Whether it is known to be added or taken away, as a bias or a running mean is.
        """
        return tensor


class NewRows(Method):
    """New rows that nothing listens to: of outputs, where no replicas are wanted."""

    preserves_function = True
    replicas = False
    carries = True
    offered = False

    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return silence(weight, columns)


_METHODS: dict[str, Method] = {}


MethodType = TypeVar("MethodType", bound=type[Method])


def register(cls: MethodType) -> MethodType:
    """Class decorator: adds a method under its `name`, which `method=` of `fxgrow.grow` takes from then on.

    Raises:
        ValueError: The class does not state what a method has to state, or there is a method of that name.
    """
    missing = [name for name in ("name", "preserves_function", "replicas", "source") if not hasattr(cls, name)]
    if missing:
        raise ValueError(f"the method {cls.__name__} does not state its {', '.join(missing)}")
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


def offered(name: str) -> Method:
    """The method of a name that a user gives.

    Raises:
        PlanError: There is none.
    """
    if isinstance(name, str) and name in _METHODS and not _METHODS[name].offered:
        raise PlanError(f"method {name!r} is for what Outputs adds; for other widths there are {', '.join(names())}")
    return method(name)


def names() -> tuple[str, ...]:
    """The names of all methods that are offered."""
    return tuple(sorted(name for name, how in _METHODS.items() if how.offered))


def normal(shape: torch.Size, like: Tensor, generator: Generator) -> Tensor:
    """Standard normal numbers, drawn on the CPU so that every device gets the same, in like's dtype."""
    return torch.randn(shape, generator=generator, dtype=torch.float32).to(like)


def mean_of_old(tensor: Tensor, columns: Columns) -> Tensor:
    """The mean over the old entries of a grown dimension, in float64, with that dimension of size 1."""
    old = torch.nonzero(columns.original).flatten().to(tensor.device)
    return tensor.index_select(columns.dim, old).mean(columns.dim, keepdim=True, dtype=torch.float64)


def fill_new(tensor: Tensor, columns: Columns, entries: Tensor) -> Tensor:
    """The new entries of a grown dimension set, in place, to something that broadcasts to them."""
    shape = list(tensor.shape)
    shape[columns.dim] = len(columns.new)
    return tensor.index_copy_(columns.dim, columns.new, entries.to(tensor.dtype).expand(shape))


HE = 2.0  # keeps the size of a signal through ReLU (He et al., arXiv 1502.01852)
TORCH = 1 / 3  # of torch.nn's own initialisation of linear and convolution layers


def random_entries(weight: Tensor, columns: Columns, generator: Generator, gain: float = HE) -> Tensor:
    """The new entries of a dimension drawn uniformly around 0, with variance gain / fan_in, in place."""
    if not len(columns.new):
        return weight
    fan_in = max(1, weight[0].numel()) if weight.ndim > 1 else 1
    bound = math.sqrt(3 * gain / fan_in)
    part = take(weight, columns.dim, columns.new_at)
    if part.is_cpu and part.dtype == torch.float32 and part.is_contiguous() and isinstance(columns.new_at, slice):
        part.uniform_(-bound, bound, generator=generator)
    else:  # on the CPU, so that every device gets the same
        drawn = torch.empty(part.shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
        put(weight, columns.dim, columns.new_at, drawn.to(part))
    return weight


def silence(weight: Tensor, columns: Columns) -> Tensor:
    """The new entries of a dimension set to zero, in place."""
    if isinstance(columns.new_at, slice):
        take(weight, columns.dim, columns.new_at).zero_()
        return weight
    return weight.index_fill_(columns.dim, columns.new, 0.0)


def divide(weight: Tensor, columns: Columns, share: Callable[[torch.Size, int], tuple[Tensor, float]]) -> Tensor:
    """Split each replicated column V of a gathered weight into V_1 + ... + V_k = V, in place, without any rounding.

    Breaks one part off after the other: V_k = s V, then V_(k-1) = s' (V - V_k), ...; what is left is V_1. With
    0 < s < 1, t = (1 + s) V in the weight's own dtype lies between V and 2 V, so that t - V has no rounding
    (Sterbenz), and is a multiple of V's last bit no larger than V, so that V - (t - V) has none either.

    Args:
        weight: Gathered along `columns.dim`.
        columns: The grown dimension.
        share: For the shape of a part and the number of parts left (with this one), the share of the rest that
            it gets, as numerators (of that shape, or one for all) and the number that they are multiplied with.
    """
    dim = columns.dim
    for turn in columns.rounds:
        shape = torch.Size([*weight.shape[:dim], turn.number, *weight.shape[dim + 1 :]])
        numerators, scale = share(shape, turn.parts)
        numerators = numerators.to(weight)
        start = 0
        for here, rest_at, number in turn.pieces:
            if turn.fresh and turn.parts == 2:  # two replicas are alike: the new one keeps the rest, where it lies
                here, rest_at = rest_at, here
            part = numerators.narrow(dim, start, number) if numerators.ndim else numerators
            _break_off(weight, dim, here, rest_at, part, scale)
            start += number
    return weight


def _break_off(weight: Tensor, dim: int, here: Where, rest_at: Where, numerators: Tensor, scale: float) -> None:
    """Move a share of some entries to others."""
    rest = take(weight, dim, rest_at)
    place = take(weight, dim, here) if isinstance(here, slice) else torch.empty_like(rest)
    piece = _piece(rest, numerators, scale, place)
    if not isinstance(here, slice):
        put(weight, dim, here, piece)
    rest.sub_(piece)
    if not isinstance(rest_at, slice):  # else it is a view of the weight
        put(weight, dim, rest_at, rest)


def _piece(rest: Tensor, numerators: Tensor, scale: float, place: Tensor) -> Tensor:
    """A share of each of some numbers, by whose taking away nothing is rounded, written to a place for it."""
    more = torch.addcmul(rest, rest, numerators, value=scale)
    if more.is_cpu and math.isfinite(float(more.sum(dtype=_SUM.get(more.dtype)))):
        return torch.sub(more, rest, out=place)
    half = rest * 0.5  # twice the largest numbers overflows
    half = torch.addcmul(half, half, numerators, value=scale).sub_(half)
    return place.copy_(torch.where(more.isfinite(), more - rest, half * 2))


_SUM = {torch.float16: torch.float32, torch.bfloat16: torch.float32}  # what finite numbers are summed in
