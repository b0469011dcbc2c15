"""Layouts: what one dimension of a tensor is made of.

A layout is a concatenation of blocks, a block an ordered (row-major) product of factors, and a factor
a fixed integer, a width (an *atom*), or a nested layout::

    conv out        ((a,),)               [a]
    cat(x, y)       ((a,), (b,))          [a + b]
    flatten         ((a, 49),)            [a*49]
    view, 2 rows    ((2, ((a,), (b,))),)  [2*(a + b)]

The layout of a dimension and one mapping ``g: [new] -> [old]`` per atom determine what growth does to the
dimension: its new size (`measure`), and the old index that each new index copies (`index_map.index_map`).
Atoms are `Var` during inference and strings (names of width groups) afterwards. The functions here work on
both and know no operator.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

InputDim = tuple[str, int]  # the name of an input in a run, and one of its dimensions


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Var:
    """A width during inference. Compared by identity; `index` numbers the variables in order of creation.

    Attributes:
        name: For messages: a dimension of a parameter, or what it was split from.
        size: The width in the teacher, channels.
        index: The number of the variable; of two that are unified the one with the lower number stays.
        count: Whether it is a number of rows (groups of a convolution), which grows only if the spec asks for it.
        elastic: Whether it is a dimension of constant values, which takes the size of what it is unified with.
        input: The dimension of an input that it is, or is a part of; it is fixed unless a request lifts that.
    """

    name: str
    size: int
    index: int
    count: bool = False
    elastic: bool = False
    input: InputDim | None = None

    def __repr__(self) -> str:
        return f"{self.name}={self.size}"


Atom = Var | str
Factor = Any  # int | Atom | Layout: a recursive alias, which no type checker for Python 3.10 accepts
Block = tuple[Factor, ...]
Layout = tuple[Block, ...]

ONE: Layout = ((),)


def fixed(size: int) -> Layout:
    """The layout of a dimension of a fixed size."""
    return ONE if size == 1 else ((size,),)


def of(atom: Atom) -> Layout:
    """The layout that consists of one atom."""
    return ((atom,),)


def only_atom(layout: Layout) -> Atom | None:
    """The atom of a layout that consists of one atom; None for any other layout."""
    if len(layout) == 1 and len(layout[0]) == 1 and isinstance(layout[0][0], Var | str):
        return layout[0][0]
    return None


def is_fixed(layout: Layout) -> bool:
    """Whether the layout has no atom."""
    for block in layout:
        for factor in block:
            if not (is_fixed(factor) if isinstance(factor, tuple) else isinstance(factor, int)):
                return False
    return True


def atoms(layout: Layout) -> Iterator[Any]:
    """The atoms of the layout in row-major order, leftmost first, with repetitions."""
    for block in layout:
        for factor in block:
            if isinstance(factor, tuple):
                yield from atoms(factor)
            elif not isinstance(factor, int):
                yield factor


def blocks_of(layouts: Iterable[Layout]) -> Iterator[Block]:
    """Every block of some layouts, also those inside factors."""
    for layout in layouts:
        for block in layout:
            yield block
            yield from blocks_of([factor for factor in block if isinstance(factor, tuple)])


def measure(layout: Layout, width_of: Callable[[Any], int]) -> int:
    """The size of a dimension, given the width of each atom."""
    if len(layout) == 1:
        return measure_block(layout[0], width_of)
    return sum(measure_block(block, width_of) for block in layout)


def measure_block(block: Block, width_of: Callable[[Any], int]) -> int:
    """The size of one block: the product of its factors."""
    size = 1
    for factor in block:
        if isinstance(factor, int):
            size *= factor
        elif isinstance(factor, tuple):
            size *= measure(factor, width_of)
        else:
            size *= width_of(factor)
    return size


def product(parts: Sequence[Layout]) -> Layout:
    """The row-major product: the layout of dimensions with these layouts flattened into one."""
    factors: list[Factor] = []
    for part in parts:
        factors.extend(part[0] if len(part) == 1 else [part])
    return _product_of(factors)


def _product_of(factors: Sequence[Factor]) -> Layout:
    merged: list[Factor] = []
    for factor in factors:
        if isinstance(factor, int):
            if factor == 1:
                continue
            if merged and isinstance(merged[-1], int):
                merged[-1] *= factor
                continue
        merged.append(factor)
    if merged and isinstance(merged[0], tuple):  # (a + b)*49 is a*49 + b*49
        rest = merged[1:]
        return concat([_product_of([*block, *rest]) for block in merged[0]]) if rest else merged[0]
    return (tuple(merged),)


def concat(parts: Sequence[Layout]) -> Layout:
    """The layout of a concatenation; adjacent fixed blocks are merged."""
    blocks: list[Block] = []
    for block in itertools.chain.from_iterable(parts):
        if blocks and _is_number(block) and _is_number(blocks[-1]):
            (blocks[-1],) = fixed(_number(blocks[-1]) + _number(block))
        else:
            blocks.append(block)
    return tuple(block for block in blocks if block != (0,)) or ((0,),)


def _is_number(block: Block) -> bool:
    return not block or (len(block) == 1 and isinstance(block[0], int))


def _number(block: Block) -> int:
    return block[0] if block else 1


def substitute(layout: Layout, value_of: Callable[[Any], Layout]) -> Layout:
    """The layout with each atom replaced by `value_of(atom)`, normalised by `concat` and `product`."""
    only = only_atom(layout)
    if only is not None:  # fast path: most layouts are one atom
        return value_of(only)
    return concat(
        [
            product(
                [
                    fixed(f) if isinstance(f, int) else substitute(f, value_of) if isinstance(f, tuple) else value_of(f)
                    for f in block
                ]
            )
            for block in layout
        ]
    )


def prefix(layout: Layout, position: int, width_of: Callable[[Any], int]) -> Layout | None:
    """The layout of the first `position` entries; None if a block that can grow extends over `position`."""
    before: list[Block] = []
    offset = 0
    for block in layout:
        if offset == position:
            break
        size = measure_block(block, width_of)
        if offset + size > position:
            if not _is_number(block):
                return None
            before.append((position - offset,))
            offset = position
            break
        before.append(block)
        offset += size
    return concat([tuple(before)]) if offset == position and before else fixed(0) if position == 0 else None


def show(layout: Layout) -> str:
    """The layout as a formula: ``a*49 + b``."""
    return " + ".join("*".join(_show_factor(f) for f in block) or "1" for block in layout)


def _show_factor(factor: Factor) -> str:
    if isinstance(factor, tuple):
        return f"({show(factor)})"
    return str(factor)


@dataclass(frozen=True, slots=True)
class Equality:
    """A constraint of the solver: two dimensions must have equal sizes after growth.

    Attributes:
        left: The layout of one dimension, in names of width groups.
        right: The layout of the other.
        reason: The operator or literal that requires it, for messages.
    """

    left: Layout
    right: Layout
    reason: str

    @property
    def names(self) -> set[str]:
        """The width groups that occur in either layout."""
        return {*atoms(self.left), *atoms(self.right)}
