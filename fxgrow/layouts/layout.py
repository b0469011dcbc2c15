"""Layouts: what one dimension of a tensor is made of.

A layout is a concatenation of blocks, a block an ordered (row-major) product of factors, and a factor
a fixed integer, a width (an *atom*), or a nested layout::

    conv out        ((a,),)               [a]
    cat(x, y)       ((a,), (b,))          [a + b]
    flatten         ((a, 49),)            [a*49]
    view, 2 rows    ((2, ((a,), (b,))),)  [2*(a + b)]

Everything that growth does to a dimension follows from its layout and one mapping ``g`` per atom: its
new size (`measure`), and which old index each new index copies (`index_map`). Atoms are `Var` while
widths are being inferred and plain strings (names of width groups) afterwards; the functions here
serve both, and know no operator.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

InputDim = tuple[str, int]  # the name of an input in a run, and one of its dimensions


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Var:
    """A width while it is being inferred. Two are equal only if they are the same object.

    Attributes:
        name: For messages.
        size: Its size in the teacher.
        index: A running number: an older width has a smaller one.
        count: Whether it is a number of rows (groups of a convolution), which grows only where the spec asks for it.
        elastic: Whether it is a dimension of constant values, which takes whatever size it meets.
        input: The dimension of an input that it is (a part of). Its size is fixed unless a request lifts that.
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
    """The layout of a dimension that never grows."""
    return ONE if size == 1 else ((size,),)


def of(atom: Atom) -> Layout:
    """The layout that is one whole atom."""
    return ((atom,),)


def only_atom(layout: Layout) -> Atom | None:
    """The atom that a layout consists of, or None where there is more to it."""
    if len(layout) == 1 and len(layout[0]) == 1 and isinstance(layout[0][0], Var | str):
        return layout[0][0]
    return None


def is_fixed(layout: Layout) -> bool:
    """Whether no atom occurs in the layout."""
    return next(atoms(layout), None) is None


def atoms(layout: Layout) -> Iterator[Any]:
    """Every atom of the layout, outermost and leftmost first, with repetitions."""
    for block in layout:
        for factor in block:
            if isinstance(factor, tuple):
                yield from atoms(factor)
            elif not isinstance(factor, int):
                yield factor


def measure(layout: Layout, width_of: Callable[[Any], int]) -> int:
    """The size of a dimension, with `width_of` giving each atom's width."""
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
    """The row-major product: what flattening dimensions with these layouts gives."""
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
    """The layout of a concatenation; neighbouring fixed blocks become one."""
    blocks: list[Block] = []
    for block in itertools.chain.from_iterable(parts):
        if blocks and _is_number(block) and _is_number(blocks[-1]):
            blocks[-1] = (_number(blocks[-1]) + _number(block),)
        else:
            blocks.append(block)
    return tuple(block for block in blocks if block != (0,)) or ((0,),)


def _is_number(block: Block) -> bool:
    return not block or (len(block) == 1 and isinstance(block[0], int))


def _number(block: Block) -> int:
    return block[0] if block else 1


def substitute(layout: Layout, value_of: Callable[[Any], Layout]) -> Layout:
    """The layout with each atom replaced by `value_of(atom)`, in normal form."""
    only = only_atom(layout)
    if only is not None:  # nearly all are
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
    """The blocks that lie before `position`, or None where it cuts through a block that can grow."""
    before: list[Block] = []
    reached = 0
    for block in layout:
        if reached == position:
            break
        size = measure_block(block, width_of)
        if reached + size > position:
            if not _is_number(block):
                return None
            before.append((position - reached,))
            reached = position
            break
        before.append(block)
        reached += size
    return concat([tuple(before)]) if reached == position and before else fixed(0) if position == 0 else None


def index_map(
    layout: Layout, width_of: Callable[[Any], int], mapping_of: Callable[[Any], Tensor]
) -> tuple[Tensor, Tensor]:
    """Where each index of a grown dimension comes from.

    Args:
        layout: The dimension's layout.
        width_of: The old width of an atom.
        mapping_of: The mapping ``g: [new] -> [old]`` of an atom, int64 of shape ``(new,)``, whose first
            ``old`` entries are ``0 .. old-1``.

    Returns:
        ``(index, original)``, both of shape ``(new size,)``: the old index that each new index copies,
        int64, and whether it *is* the old entry (False: a replica), bool.
    """
    pieces: list[tuple[Tensor, Tensor]] = []
    offset = 0
    for block in layout:
        index, original = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.bool)
        for factor in block:
            if isinstance(factor, int):
                inner, same, size = torch.arange(factor), torch.ones(factor, dtype=torch.bool), factor
            elif isinstance(factor, tuple):
                inner, same = index_map(factor, width_of, mapping_of)
                size = measure(factor, width_of)
            else:
                inner, size = mapping_of(factor), width_of(factor)
                same = torch.arange(len(inner)) < size
            index = (index[:, None] * size + inner).flatten()  # (outer, inner) -> (outer*inner,)
            original = (original[:, None] & same).flatten()
        pieces.append((index + offset, original))
        offset += measure_block(block, width_of)
    return torch.cat([index for index, _ in pieces]), torch.cat([original for _, original in pieces])


def show(layout: Layout) -> str:
    """The layout as people write it: ``a*49 + b``."""
    return " + ".join("*".join(_show_factor(f) for f in block) or "1" for block in layout)


def _show_factor(factor: Factor) -> str:
    if isinstance(factor, tuple):
        return f"({show(factor)})"
    return str(factor)


@dataclass(frozen=True, slots=True)
class Equality:
    """Two dimensions that have to have one size, whatever grows."""

    left: Layout
    right: Layout
    reason: str

    @property
    def names(self) -> set[str]:
        """The widths that it is about."""
        return {*atoms(self.left), *atoms(self.right)}
