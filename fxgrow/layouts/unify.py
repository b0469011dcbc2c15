"""Unification of layouts: type inference with widths as the types.

Two dimensions that an operator ties are unified. A dimension that is cut, or viewed as rows and columns, has its
width substituted by ``b + c`` or ``x*y``. What layouts cannot express raises `Inexpressible`, and the caller pins.
Equations with dimensions of inputs are deferred (`input_dims`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Literal, TypeVar

from .bindings import Inexpressible, Tie, size, var_size
from .input_dims import DeferredEquation, InputBindings
from .layout import (
    ONE,
    Factor,
    InputDim,
    Layout,
    Var,
    concat,
    fixed,
    is_fixed,
    measure_block,
    of,
    only_atom,
    product,
    show,
)

__all__ = ["Inexpressible", "Kind", "Tie", "Unifier", "size"]

T = TypeVar("T")
Kind = Literal["fixed", "width", "count", "single"]


class Unifier(InputBindings):
    """Bindings with the three operations of inference: unify two dimensions, cut one, split one into factors."""

    def with_inputs(self, lifted: AbstractSet[InputDim]) -> Unifier:
        """The result of the inference with some dimensions of inputs as ordinary widths, and all others fixed.

        Args:
            lifted: The dimensions of inputs that may grow.
        """
        solved = Unifier()
        self.copy_solved(solved, lifted)
        for equation in self._deferred:
            if equation.inputs & lifted:
                solved._solve(equation)
        return solved

    def branch(self) -> Unifier:
        """A copy in which more can be found out, without any effect here."""
        twin = Unifier()
        self.copy_whole(twin)
        return twin

    def _solve(self, equation: DeferredEquation) -> None:
        self.site = equation.site
        try:
            self._unify(self.resolve(equation.a), self.resolve(equation.b))
        except Inexpressible as error:
            for layout in (equation.a, equation.b):
                self.pin(layout, f"{error} (in {self.site})")

    def expressed(self, step: Callable[[], T], *layouts: Layout) -> T:
        """Run a step of the unification of some layouts; if it fails, fix the dimensions of inputs in them and repeat.

        Raises:
            Inexpressible: It also fails with fixed dimensions.
        """
        while True:
            try:
                return step()
            except Inexpressible:
                if not self.fix_inputs(layouts):
                    raise

    # -- one width -------------------------------------------------------------------------------

    def unify(self, a: Layout, b: Layout) -> None:
        """Make two dimensions one width with one channel mapping.

        Args:
            a: A layout.
            b: A layout of the same size.

        Raises:
            Inexpressible: Their sizes differ, or no layout refines both.
        """
        left, right = only_atom(a), only_atom(b)
        if isinstance(left, Var) and isinstance(right, Var) and left is not right:
            self.tie(left, right)  # the variables at this operator, before they are resolved
        self._unify(self.resolve(a), self.resolve(b))

    def _unify(self, a: Layout, b: Layout) -> None:
        if a == b:
            return
        if size(a) != size(b):
            raise Inexpressible(f"sizes {size(a)} and {size(b)} differ")
        if self._inputs:
            if self.defer_input(a, b):
                return
            a, b = self.without_ones(a), self.without_ones(b)
        left, right = only_atom(a), only_atom(b)
        if left is right and left is not None:
            return
        if isinstance(left, Var) and isinstance(right, Var):
            older, younger = sorted(
                (left, right), key=lambda var: (self._solves_inputs or var.input is None, var.index)
            )
            if not self.is_elastic(younger):
                self._settled.add(older)
            self.bind(younger, of(older))
        elif isinstance(left, Var):
            self.bind(left, b)
        elif isinstance(right, Var):
            self.bind(right, a)
        elif is_fixed(a) or is_fixed(b):
            self.pin(a, f"meets the fixed size {size(a)} in {self.site}")
            self.pin(b, f"meets the fixed size {size(a)} in {self.site}")
        elif len(a) > 1 or len(b) > 1:
            self._unify_blocks(a, b)
        else:
            self._unify_factors(list(a[0]), list(b[0]))

    def _unify_blocks(self, a: Layout, b: Layout) -> None:
        """Concatenations: cut each at the block boundaries of the other, then unify block by block."""
        while a and b:
            head_a, head_b = measure_block(a[0], var_size), measure_block(b[0], var_size)
            if head_a == head_b:
                self._unify(a[:1], b[:1])
                a, b = a[1:], b[1:]
            elif head_a < head_b:
                first, second = self.cut(b[:1], head_a)
                self._unify(self.resolve(a[:1]), first)
                a, b = a[1:], second + b[1:]
            else:
                first, second = self.cut(a[:1], head_b)
                self._unify(first, self.resolve(b[:1]))
                a, b = second + a[1:], b[1:]
            a, b = self.resolve(a) if a else (), self.resolve(b) if b else ()

    def _unify_factors(self, a: list[Factor], b: list[Factor]) -> None:
        """Products: split the larger of the two outermost factors, then unify factor by factor."""
        while a and b:
            outer_a, outer_b = _as_layout(a[0]), _as_layout(b[0])
            size_a, size_b = size(outer_a), size(outer_b)
            if size_a == size_b:
                self._unify(outer_a, outer_b)
                a, b = a[1:], b[1:]
            elif size_b % size_a == 0:
                outer, inner = self.split(outer_b, size_a, ("width", "width"))
                self._unify(self.resolve(outer_a), outer)
                a, b = a[1:], [*_factors(inner), *b[1:]]
            elif size_a % size_b == 0:
                outer, inner = self.split(outer_a, size_b, ("width", "width"))
                self._unify(outer, self.resolve(outer_b))
                a, b = [*_factors(inner), *a[1:]], b[1:]
            else:
                raise Inexpressible(f"{show(((*a,),))} and {show(((*b,),))} have no common factors")
            a, b = self._resolved(a), self._resolved(b)
        self.pin(((*a, *b),), f"a factor of size 1 in {self.site}")

    def _resolved(self, factors: list[Factor]) -> list[Factor]:
        return _factors(self.resolve((tuple(factors),))) if factors else []

    # -- cutting ---------------------------------------------------------------------------------

    def cut(self, layout: Layout, position: int) -> tuple[Layout, Layout]:
        """Cut a dimension in two at `position`; a width variable that extends over it is bound to two new ones.

        Args:
            layout: The layout of the dimension.
            position: The size of the first part: more than 0, less than the size of the dimension.

        Raises:
            Inexpressible: The position is outside the dimension.
        """
        layout = self.resolve(layout)
        before: list[Layout] = []
        offset = 0
        for number, block in enumerate(layout):
            length = measure_block(block, var_size)
            if offset + length > position:
                rest = layout[number + 1 :]
                if offset == position:
                    return concat(before), concat([(block,), rest])
                first, second = self._cut_block(block, position - offset)
                return concat([*before, first]), concat([second, rest])
            before.append((block,))
            offset += length
        raise Inexpressible(f"a cut at {position} is outside a dimension of size {offset}")

    def _cut_block(self, block: tuple[Factor, ...], position: int) -> tuple[Layout, Layout]:
        factor, rest = block[0], (block[1:],)
        rows, inside = divmod(position, size(rest))
        if not inside:
            first, second = self._cut_factor(factor, rows)
            return product([first, rest]), product([second, rest])
        # The position is inside one row of `rest`: pin the number of the rows that are cut, which is 1.
        parts = []
        if rows:
            first, factor_rest = self._cut_factor(factor, rows)
            parts.append(product([first, rest]))
        else:
            factor_rest = _as_layout(factor)
        middle, last = self.cut(factor_rest, 1) if size(factor_rest) > 1 else (factor_rest, None)
        self.pin(middle, f"{self.site} cuts through it")
        inner_first, inner_second = self.cut(rest, inside)
        tail = [inner_second] if last is None else [inner_second, product([self.resolve(last), self.resolve(rest)])]
        return concat([*parts, inner_first]), concat(tail)

    def _cut_factor(self, factor: Factor, position: int) -> tuple[Layout, Layout]:
        if isinstance(factor, int):
            return fixed(position), fixed(factor - position)
        if isinstance(factor, tuple):
            return self.cut(factor, position)
        var: Var = factor
        self.divisions += var.input is None
        first = self.fresh(f"{var.name}[:{position}]", position, of_input=var.input)
        second = self.fresh(f"{var.name}[{position}:]", var.size - position, of_input=var.input)
        self.bind(var, (*of(first), *of(second)))
        return of(first), of(second)

    # -- splitting into factors ------------------------------------------------------------------

    def split(self, layout: Layout, outer: int, kinds: tuple[Kind, Kind]) -> tuple[Layout, Layout]:
        """Split a dimension into the row-major product of `outer` rows and the size of a row.

        Args:
            layout: The layout of the dimension.
            outer: The number of rows; it must divide the size.
            kinds: What a variable that must be split gets for the number of rows and for the size of a row: a
                "fixed" size (a literal of the model's code), a new "width", or a "count" of groups. In `split_into`
                also "single": a count that is 1.

        Returns:
            The layouts of the number of rows and of one row.

        Raises:
            Inexpressible: The size is no multiple of `outer`, or the rows would have different layouts.
        """
        layout = self.resolve(layout)
        total = size(layout)
        if outer == 1:
            return ONE, layout
        if outer == total:
            return layout, ONE
        if total % outer:
            raise Inexpressible(f"{total} is no multiple of {outer}")
        if len(layout) == 1:
            return self._split_block(list(layout[0]), outer, kinds)
        return self._split_blocks(layout, outer, total // outer, kinds)

    def is_single(self, layout: Layout) -> bool:
        """Whether a dimension is a number of heads or groups, of which there is one, or holds such a number last."""
        return not is_fixed(self._split_last(layout)[1])

    def _split_last(self, layout: Layout) -> tuple[Layout, Layout]:
        """A dimension without its last factor, where that is a number of rows that is 1, and this number, or 1."""
        layout = self.resolve(layout)
        last = layout[-1][-1] if layout and layout[-1] else 1
        if len(layout) > 1 or not isinstance(last, Var) or last.size != 1 or not self.is_count(last):
            return layout, ONE
        return (layout[0][:-1],), of(last)

    def _split_single(self, layout: Layout) -> tuple[Layout, Layout]:
        """A number of rows that is 1 and may become larger, and the size of a row, which is all of the dimension."""
        layout = self.resolve(layout)
        first = layout[0][0] if layout[0] else 1
        if len(layout) > 1 or not isinstance(first, Var) or first.input is not None:
            return ONE, layout
        if first.size == 1:
            return (of(first), (layout[0][1:],)) if len(layout[0]) > 1 else (ONE, layout)
        rows, _ = self._divide(first, 1, ("count", "width"))
        return rows, self._split_single(layout)[1]

    def _split_block(self, factors: list[Factor], outer: int, kinds: tuple[Kind, Kind]) -> tuple[Layout, Layout]:
        rows: list[Layout] = []
        for number, factor in enumerate(factors):
            part = _as_layout(factor)
            length = size(part)
            rest = [_as_layout(f) for f in factors[number + 1 :]]
            if outer == 1:
                return product(rows), product([part, *rest])
            if outer % length == 0:
                rows.append(part)
                outer //= length
                continue
            if length % outer:
                raise Inexpressible(f"{show(((*factors,),))} has no {outer} equal rows")
            first, second = self._split_factor(factor, outer, kinds)
            return product([*rows, first]), product([second, *(self.resolve(r) for r in rest)])
        return product(rows), ONE

    def _split_factor(self, factor: Factor, outer: int, kinds: tuple[Kind, Kind]) -> tuple[Layout, Layout]:
        if isinstance(factor, int):
            return fixed(outer), fixed(factor // outer)
        if isinstance(factor, tuple):
            return self.split(factor, outer, kinds)
        return self._divide(factor, outer, kinds)

    def _divide(self, var: Var, outer: int, kinds: tuple[Kind, Kind]) -> tuple[Layout, Layout]:
        """Bind a variable to the product of a number of rows and the size of a row."""
        self.divisions += var.input is None
        grouped = kinds[0] == "count"
        names = (
            (f"groups of {self.site}", f"{self.site} per group") if grouped else (f"{var.name}/rows", f"{var.name}/row")
        )
        first = self._part(names[0], outer, kinds[0], var.input)
        second = self._part(names[1], var.size // outer, kinds[1], var.input)
        self.bind(var, product([first, second]))
        return self.resolve(first), self.resolve(second)

    def _part(self, name: str, length: int, kind: Kind, of_input: InputDim | None) -> Layout:
        if kind == "fixed":
            return fixed(length)
        return of(self.fresh(name, length, count=kind == "count", of_input=of_input))

    def _split_blocks(self, layout: Layout, outer: int, row: int, kinds: tuple[Kind, Kind]) -> tuple[Layout, Layout]:
        lengths = [measure_block(block, var_size) for block in layout]
        if all(length % row == 0 for length in lengths):  # each block consists of rows
            parts = [self.split(layout[i : i + 1], n // row, kinds) for i, n in enumerate(lengths)]
            for _, inner in parts[1:]:
                self.unify(parts[0][1], inner)
            return concat([self.resolve(rows) for rows, _ in parts]), self.resolve(parts[0][1])
        first, rest = self.cut(layout, row)  # else cut off row after row, and unify all rows
        for left in range(outer - 1, 0, -1):
            this, rest = self.cut(rest, row) if left > 1 else (rest, ONE)
            self.unify(first, this)
            rest = self.resolve(rest)
        return fixed(outer), self.resolve(first)

    def split_into(self, layout: Layout, sizes: Sequence[int], kinds: Sequence[Kind]) -> list[Layout]:
        """Split a dimension into several, outermost first, by repeated `split`.

        Args:
            layout: The layout of the dimension.
            sizes: The sizes of the new dimensions; their product is the size of the dimension.
            kinds: One per new dimension; see `split`.

        Raises:
            Inexpressible: As for `split`.
        """
        parts: list[Layout] = []
        if len(sizes) > 1 and kinds[-1] == "single":
            front, last = self._split_last(layout)
            return [*self.split_into(front, sizes[:-1], kinds[:-1]), last]
        for number, length in enumerate(sizes[:-1]):
            if kinds[number] == "single":
                rows, layout = self._split_single(layout)
                parts.append(rows)
                continue
            later: Kind = "width" if any(kind != "fixed" for kind in kinds[number + 1 :]) else "fixed"
            rows, layout = self.split(layout, length, (kinds[number], later))
            parts.append(rows)
        parts.append(layout)
        return [self.resolve(part) for part in parts]


def _as_layout(factor: Factor) -> Layout:
    return factor if isinstance(factor, tuple) else fixed(factor) if isinstance(factor, int) else of(factor)


def _factors(layout: Layout) -> list[Factor]:
    return list(layout[0]) if len(layout) == 1 else [layout]
