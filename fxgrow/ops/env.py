"""The interface that rules are written against.

A rule gets the operator's arguments with each tensor replaced by a `Value` (its layouts), and returns the
layouts of the results. It calls `Env` to state which dimensions are one width, which are pinned, and which
mappings commute with the operator.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..layouts.layout import ONE, Layout
from ..layouts.unify import Kind, size
from ..model.tree import Mode

KERNEL = "it is a dimension of a kernel or of space, not a width"
PARTIAL = "has no finite value or slope for some inputs"  # so 0 times the value of a new channel may be nan
LARGE = "is not finite for some inputs far from zero"
GIVEN = "is not finite where it is zero"  # of a parameter or buffer that is divided by
POSITIONS = "reads values as positions"  # a new channel's may lie outside of what is indexed

Outcome = Any  # tuple[Layout, ...] | Value | list[tuple[Layout, ...] | Value | None]


@dataclass(frozen=True, slots=True)
class Rows:
    """What a tensor is of the rows of a parameter: their means, or their entries less that.

    Attributes:
        origin: The parameter or buffer.
        over: The dimensions of it that a row consists of.
        centred: Whether it is the entries less the mean of their row, or a multiple of that; else it is the means.
    """

    origin: str
    over: frozenset[int]
    centred: bool


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor in the analysis.

    Attributes:
        layouts: One layout per dimension.
        origin: The parameter or buffer that it is a view or a multiple of, or "".
        dims: With an origin or rows, for each dimension the dimensions of the parameter that it consists of.
        invalid: Layouts that must be pinned if the value is used, such as the width that it holds indices into.
        constant: Whether it depends on no input and no parameter.
        infinite: Whether it may hold infinities or NaN where all inputs are finite. They are at the same places
            whatever the numbers of the channels are.
        away: Whether it is away from zero for all inputs, so that quotients by it are finite.
        zeros: With an origin: it is no multiple of it, but zero wherever it is zero.
        flat: With zeros: it has no slope there, so that what is zero stays zero in training.
        nonnegative: Whether none of its entries is negative; with an origin, zero only where the origin is zero.
        length: (origin, layouts) if it is zero only where all entries of a parameter are zero, as a norm of its rows
            is; the layouts are those of the rows.
        sums: What it is a sum over. A division by the number of terms makes that a mean; in any other use, it stays.
        scaled: With an origin: its entries may be multiples of those of the origin.
        rows: What it is of the rows of a parameter, which is not its origin then.
        moved: With an origin or rows: the dimensions of the parameter along which entries stand at other places.
        extreme: The dimensions that it is the largest or smallest entry over.
        tied: Such dimensions, where it was set against other activations, as in `x - x.amax(1)`.
    """

    layouts: tuple[Layout, ...]
    origin: str = ""
    dims: tuple[tuple[int, ...], ...] = ()
    invalid: tuple[Layout, ...] = ()
    constant: bool = False
    infinite: bool = False
    away: bool = False
    zeros: bool = False
    flat: bool = False
    nonnegative: bool = False
    length: tuple[str, tuple[Layout, ...]] | None = None
    sums: tuple[Layout, ...] = ()
    scaled: bool = False
    rows: Rows | None = None
    moved: frozenset[int] = frozenset()
    extreme: tuple[Layout, ...] = ()
    tied: tuple[Layout, ...] = ()

    @property
    def source(self) -> str:
        """The parameter or buffer that `dims` are those of, or ""."""
        return self.origin or (self.rows.origin if self.rows is not None else "")

    @property
    def weighs(self) -> bool:
        """Whether the sum of a product with it can be divided among replicas, by entries of a parameter."""
        return bool(self.origin) or (self.rows is not None and self.rows.centred)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple([size(layout) for layout in self.layouts])

    def derived(self, layouts: Sequence[Layout], dims: Sequence[tuple[int, ...]]) -> Value:
        """The same entries in another shape; dividing its origin among replicas still divides it."""
        return Value(
            tuple(layouts),
            self.origin,
            tuple(dims) if self.source else (),
            away=self.away,
            zeros=self.zeros,
            flat=self.flat,
            nonnegative=self.nonnegative,
            length=self.length,
            scaled=self.scaled,
            rows=self.rows,
            moved=self.moved,
            extreme=self.extreme,
            tied=self.tied,
        )

    def reordered(self, dims: Iterable[int]) -> Value:
        """The same entries in another order along these dimensions."""
        sources = [source for d in dims for source in (self.dims[d] if self.dims else ())]
        return replace(self.derived(self.layouts, self.dims), moved=self.moved | frozenset(sources))


class Env(ABC):
    """The operations of a rule: it states constraints by calling them.

    Attributes:
        op: The overload that the rule is applied to.
        outs: The shapes of its results.
        mode: "train" or "eval".
        strides: The strides of its tensor arguments.
        dtypes: The dtypes of all its tensor arguments, including those in lists.
    """

    op: Any
    mode: Mode
    outs: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]

    @property
    def name(self) -> str:
        """The name of the operator without namespace and overload: "add_"."""
        name: str = self.op._schema.name.partition("::")[2]
        return name

    @abstractmethod
    def unify(self, a: Layout, b: Layout) -> None:
        """The two dimensions are one width with one channel mapping."""

    @abstractmethod
    def pin(self, layout: Layout, reason: str) -> None:
        """Pin the dimension to its size, for this reason."""

    def keep(self, layout: Layout, why: str) -> None:
        """As `pin`; the name of the operator is prepended to the reason."""
        self.pin(layout, f"{self.name}: {why}")

    @abstractmethod
    def cut(self, layout: Layout, position: int) -> tuple[Layout, Layout]:
        """The dimension cut at a position: the layouts of the two parts."""

    @abstractmethod
    def split(self, layout: Layout, sizes: Sequence[int], kinds: Sequence[Kind]) -> list[Layout]:
        """The dimension as a row-major product of dimensions of these sizes: their layouts."""

    @abstractmethod
    def kinds(self, sizes: Sequence[int]) -> tuple[Kind, ...]:
        """For each size of a view in the user's code: "count" if it is a literal, else "width"."""

    @abstractmethod
    def is_single(self, layout: Layout) -> bool:
        """Whether the dimension is a number of heads, of which there is one and may be more, or holds one last."""

    @abstractmethod
    def in_one_head(self) -> bool:
        """Whether the call is one of an `nn.MultiheadAttention` with one head, which may become more."""

    @abstractmethod
    def count(self, size: int) -> Layout:
        """The layout of a new number of groups."""

    @abstractmethod
    def elastic(self, size: int) -> Layout:
        """The layout of a dimension of equal values, which takes the size of what it is unified with."""

    @abstractmethod
    def contract(self, value: Value, dim: int) -> None:
        """The operator multiplies this weight by an activation and sums over the dimension."""

    @abstractmethod
    def uniform(self, layouts: Sequence[Layout], reason: str) -> None:
        """Exact only if every channel of these dimensions has the same number of replicas."""

    @abstractmethod
    def centred(self, x: Value, over: Sequence[Layout], weight: Value | None, bias: Value | None, eps: float) -> None:
        """As `uniform`, for a layer norm: (x - mean(x)) / sqrt(var(x) + eps) * weight + bias, over dimensions `over`.

        Over exactly one width it is also exact if the channels without equal replicas carry the mean of the others
        (solver/mean_channels.py).
        """

    @abstractmethod
    def replicas_only(self, layout: Layout, reason: str) -> None:
        """Exact only if new channels are replicas of old ones."""

    @abstractmethod
    def vanish(self, value: Value, dim: int, why: str) -> None:
        """Exact only if the new entries of this weight along the dimension are zero. What is no weight is pinned.

        The name of the operator is prepended to the reason.
        """

    @abstractmethod
    def nonzero(self, length: tuple[str, tuple[Layout, ...]], why: str) -> None:
        """Exact only if new rows of a parameter are not zero throughout (`Value.length`); reasons as for `vanish`."""

    @abstractmethod
    def keeps_moments(self, rows: Rows, why: str, correction: float | None = None) -> None:
        """Exact only if the mean of each row of a parameter, less which it is summed over, stays the same.

        Args:
            rows: The parameter, and what its rows are.
            why: What depends on them; the name of the operator is prepended.
            correction: Their variance with this correction has to stay as well; None where it need not.
        """

    @abstractmethod
    def leave_out(self, value: Value, dims: Sequence[int]) -> None:
        """The operator does not carry these dimensions of a weight: what it gives is the same for all sizes."""

    @abstractmethod
    def is_buffer(self, origin: str) -> bool:
        """Whether `Value.origin` is a buffer, which is not trained."""

    @abstractmethod
    def shape_of(self, origin: str) -> tuple[int, ...]:
        """The shape of a parameter or buffer."""

    @abstractmethod
    def unread(self, layout: Layout) -> None:
        """The operator leaves out these entries of its operand without reading them, as a slice does."""

    @abstractmethod
    def expect(self, argument: int, front: Layout, back: Layout = ()) -> None:
        """After growth this integer argument is the size of `front`; of `back` if it is negative (from the end)."""

    @abstractmethod
    def declare(self, **sizes: Layout | list[Layout]) -> None:
        """Attributes and literals of these names that hold the size of the dimension (list: sizes) are rewritten."""

    @abstractmethod
    def rounds(self) -> None:
        """The operator rounds what it takes: a mean of channels is no longer the mean of what they become."""

    @abstractmethod
    def note(self, layouts: Sequence[Layout], text: str) -> None:
        """Add a note to the plan if one of these dimensions grows."""


def broadcast(env: Env, operands: Sequence[Value]) -> tuple[Layout, ...]:
    """The layouts of an elementwise result; the dimensions of the operands are unified, or pinned if broadcast."""
    rank = max((len(v.layouts) for v in operands), default=0)
    shapes = [(v.layouts, v.shape) for v in operands]
    out: list[Layout] = []
    for dim in range(-rank, 0):
        here = [layouts[dim] for layouts, _ in shapes if len(layouts) >= -dim]
        sizes = [shape[dim] for _, shape in shapes if len(shape) >= -dim]
        widest = max(sizes) if 0 not in sizes else 0
        if widest == 1 and any(map(env.is_single, here)):  # one head: what is 1 beside it is broadcast over more
            here = [layout for layout in here if env.is_single(layout)]
            sizes = [1] * len(here)
        chosen: Layout | None = None
        for layout, length in zip(here, sizes, strict=True):
            if length != widest:
                env.keep(layout, "one value is broadcast over all channels")
            elif chosen is None:
                chosen = layout
            else:
                env.unify(chosen, layout)
        out.append(ONE if chosen is None else chosen)
    return tuple(out)


def tensors(args: Sequence[Any]) -> list[Value]:
    """The tensor arguments of a call."""
    return [a for a in args if isinstance(a, Value)]


def reduced(x: Value, dims: int | Sequence[int] | None) -> tuple[int, ...]:
    """The dimensions that a reduction runs over, as sorted non-negative indices."""
    rank = len(x.layouts)
    if dims is None or (not isinstance(dims, int) and not dims):
        return tuple(range(rank))
    chosen = (dims,) if isinstance(dims, int) else dims
    return tuple(sorted(d % rank for d in chosen)) if rank else ()


def left(x: Value, gone: Sequence[int], keep: bool) -> tuple[Layout, ...]:
    """The layouts of the result of a reduction over the dimensions `gone`."""
    return tuple(ONE if d in gone else layout for d, layout in enumerate(x.layouts) if keep or d not in gone)


def rows_of(env: Env, x: Value, gone: Sequence[int]) -> Rows | None:
    """The rows of a parameter that dimensions of a tensor are; None where they are none, or not the whole of them."""
    if not x.source or x.scaled or x.zeros:
        return None
    shape = env.shape_of(x.source)
    if any(x.shape[d] != math.prod(shape[source] for source in x.dims[d]) for d in gone):
        return None
    over = frozenset(source for d in gone for source in x.dims[d])
    kept = {source for d, sources in enumerate(x.dims) if d not in gone for source in sources}
    return Rows(x.source, over, centred=False) if over and not over & kept else None


def less_mean(env: Env, x: Value, mean: Value) -> Rows | None:
    """What a parameter less a tensor is, if that is the mean of its rows."""
    rows = mean.rows
    if rows is None or rows.centred or x.origin != rows.origin or x.scaled or x.zeros or x.shape != env.outs[0]:
        return None
    shape, more = env.shape_of(x.origin), len(x.layouts) - len(mean.layouts)
    found: list[int] = []
    for d, sources in enumerate(x.dims):
        theirs = mean.dims[d - more] if d >= more else ()
        whole = x.shape[d] == math.prod(shape[source] for source in sources)
        in_row = not theirs and rows.over.issuperset(sources)
        beside = theirs == sources and rows.over.isdisjoint(sources) and mean.shape[d - more] == x.shape[d]
        beside = beside and not (x.moved | mean.moved) & set(sources)
        if not whole or not (in_row or beside):
            return None
        found.extend(sources)
    distinct = len(set(found)) == len(found)
    return Rows(rows.origin, rows.over, centred=True) if distinct and rows.over <= set(found) else None
