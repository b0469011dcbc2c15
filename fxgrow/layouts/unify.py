"""Unification of layouts: ordinary type inference, with widths for types.

A union-find with substitution. Two dimensions that an operator ties are unified; a dimension that is
cut or seen as rows and columns substitutes its width by ``b + c`` or ``x*y``. What layouts cannot
express raises `Inexpressible`, and the caller pins. Every tie is kept for `WidthGraph.why`.

The dimensions of a model's inputs are variables, too, with a pin that a request lifts. Nothing is bound to them while
the rules speak: what meets one is pinned, and the equation is kept (`_meets_input`). `with_inputs` solves these
equations for the dimensions that are asked for and gives all others their sizes, so that one inference serves every
request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal, TypeVar

from .layout import (
    ONE,
    Factor,
    InputDim,
    Layout,
    Var,
    atoms,
    concat,
    fixed,
    is_fixed,
    measure,
    measure_block,
    of,
    only_atom,
    product,
    show,
    substitute,
)

T = TypeVar("T")
Kind = Literal["fixed", "width", "count"]


class Inexpressible(Exception):
    """The constraint has no solution in the language of layouts; the dimensions must keep their sizes."""


@dataclass(frozen=True, slots=True)
class Tie:
    """Why two widths hang together: they are one, or one is a part of the other."""

    a: Var
    b: Var
    site: str


@dataclass(frozen=True, slots=True)
class _Liftable:
    """A pin that holds as long as these dimensions of inputs have fixed sizes."""

    reason: str
    inputs: frozenset[InputDim]


@dataclass(frozen=True, slots=True)
class _Deferred:
    """An equation with a dimension of an input, which is solved once that dimension is asked for."""

    a: Layout
    b: Layout
    site: str
    inputs: frozenset[InputDim]


def size(layout: Layout) -> int:
    """The size of a dimension whose atoms are `Var`."""
    return measure(layout, _var_size)


def _var_size(var: Var) -> int:
    return var.size


class Unifier:
    """The state of the inference: what each width was found to be, and why it must stay."""

    def __init__(self) -> None:
        self.site = ""
        self.ties: list[Tie] = []
        self._value: dict[Var, Layout] = {}
        self._pins: dict[Var, dict[str | _Liftable, None]] = {}
        self._number = 0
        self._counts: set[Var] = set()  # widths that are a number of rows, because they met one
        self._settled: set[Var] = set()  # elastic widths that have met one that is not
        self._inputs: list[Var] = []  # dimensions of inputs, and their parts
        self._deferred: list[_Deferred] = []
        self._solves_inputs = False  # whether equations with dimensions of inputs are solved, and not kept

    def fresh(
        self, name: str, size: int, *, count: bool = False, elastic: bool = False, of_input: InputDim | None = None
    ) -> Var:
        """A new width."""
        self._number += 1
        var = Var(name, size, self._number, count, elastic, of_input)
        if of_input is not None:
            self._inputs.append(var)
        return var

    # -- reading ---------------------------------------------------------------------------------

    def resolve(self, layout: Layout) -> Layout:
        """The layout in terms of widths that are still free."""
        if len(layout) == 1 and len(layout[0]) == 1:
            factor = layout[0][0]
            if isinstance(factor, Var):
                return self._root(factor) if factor in self._value else layout
        if all(var not in self._value for var in atoms(layout)):
            return layout
        return substitute(layout, self._root)

    def _root(self, var: Var) -> Layout:
        value = self._value.get(var)
        if value is None:
            return of(var)
        value = self.resolve(value)
        self._value[var] = value
        return value

    def reasons(self, var: Var) -> tuple[str, ...]:
        """Why a width must keep its size; empty where it may grow."""
        return tuple(dict.fromkeys(p.reason if isinstance(p, _Liftable) else p for p in self._pins.get(var, ())))

    def is_count(self, var: Var) -> bool:
        """Whether a width is a number of rows: groups, heads, or what a literal says."""
        return var.count or var in self._counts

    def is_elastic(self, var: Var) -> bool:
        """Whether a width is a dimension of constant values that has met no other."""
        return var.elastic and var not in self._settled

    # -- dimensions of inputs --------------------------------------------------------------------

    def with_inputs(self, lifted: AbstractSet[InputDim]) -> Unifier:
        """What was found, with some dimensions of inputs as widths like all others, and with all others fixed.

        Args:
            lifted: The dimensions that may grow.
        """
        solved = Unifier()
        solved.ties = [t for t in self.ties if all(var.input is None or var.input in lifted for var in (t.a, t.b))]
        solved._value, solved._number = dict(self._value), self._number
        solved._counts, solved._settled = set(self._counts), set(self._settled)
        solved._solves_inputs = True
        closed = [var for var in self._inputs if var.input not in lifted]
        solved._value.update((var, fixed(var.size)) for var in closed if var not in self._value)
        for var, pins in self._pins.items():
            kept = [p for p in pins if isinstance(p, str) or not p.inputs & lifted]
            if kept and (var.input is None or var.input in lifted):
                solved._pins[var] = dict.fromkeys(p if isinstance(p, str) else p.reason for p in kept)
        for equation in self._deferred:
            if equation.inputs & lifted:
                solved._solve(equation)
        return solved

    def _solve(self, equation: _Deferred) -> None:
        self.site = equation.site
        try:
            self._unify(self.resolve(equation.a), self.resolve(equation.b))
        except Inexpressible as error:
            for layout in (equation.a, equation.b):
                self.pin(layout, f"{error} (in {self.site})")

    def fix_inputs(self, layouts: Sequence[Layout]) -> bool:
        """Give the parts of inputs in layouts their sizes for good, or else the inputs' dimensions in them.

        A fixed size can be taken apart in several ways that a variable cannot: 12 is 3 * 4 and 2 * 6.

        Returns:
            Whether there were any.
        """
        inputs = {var for layout in layouts for var in atoms(self.resolve(layout)) if var.input is not None}
        first: dict[InputDim | None, Var] = {}
        for var in self._inputs:
            first.setdefault(var.input, var)
        parts = inputs - set(first.values())
        for var in parts or inputs:
            self._value[var] = fixed(var.size)
            self._pins.pop(var, None)
        return bool(inputs)

    def expressed(self, step: Callable[[], T], *layouts: Layout) -> T:
        """A step of the unification of these layouts; if it fails, it is tried with inputs of fixed sizes.

        Raises:
            Inexpressible: It fails with these, too.
        """
        while True:
            try:
                return step()
            except Inexpressible:
                if not self.fix_inputs(layouts):
                    raise

    def _meets_input(self, a: Layout, b: Layout) -> bool:
        """Keep an equation of which one side is made of dimensions of inputs, and pin the other side.

        Returns:
            Whether it is such an equation.
        """
        if self._solves_inputs:
            return False
        inputs = frozenset(var.input for var in (*atoms(a), *atoms(b)) if var.input is not None)
        if not inputs or not (_has_fixed_size(a) or _has_fixed_size(b)):
            return False
        if any(isinstance(var := only_atom(layout), Var) and self.is_elastic(var) for layout in (a, b)):
            return False  # it follows
        self._deferred.append(_Deferred(a, b, self.site, inputs))
        pin = _Liftable(f"meets the fixed size {size(a)} in {self.site}", inputs)
        for var in (*atoms(a), *atoms(b)):
            self._pins.setdefault(var, {}).setdefault(pin)
        return True

    def _without_ones(self, layout: Layout) -> Layout:
        """The layout without dimensions of inputs that are a factor of size 1; they keep that size."""
        ones = {var for var in atoms(layout) if var.input is not None and var.size == 1}
        if not ones:
            return layout
        for var in ones:
            self.pin(of(var), f"a factor of size 1 in {self.site}")
        return substitute(layout, lambda var: ONE if var in ones else of(var))

    # -- constraints -----------------------------------------------------------------------------

    def pin(self, layout: Layout, reason: str) -> None:
        """Every width in the layout keeps its size, for this reason."""
        for var in atoms(self.resolve(layout)):
            self._pins.setdefault(var, {}).setdefault(reason)

    def unify(self, a: Layout, b: Layout) -> None:
        """The two dimensions get one width, with one mapping of channels.

        Raises:
            Inexpressible: They have no common refinement.
        """
        left, right = only_atom(a), only_atom(b)
        if isinstance(left, Var) and isinstance(right, Var) and left is not right:
            self._tie(left, right)  # the widths that met here, not what they resolve to
        self._unify(self.resolve(a), self.resolve(b))

    def _tie(self, a: Var, b: Var) -> None:
        if a is not b:
            self.ties.append(Tie(a, b, self.site))

    def _unify(self, a: Layout, b: Layout) -> None:
        if a == b:
            return
        if size(a) != size(b):
            raise Inexpressible(f"sizes {size(a)} and {size(b)} differ")
        if self._inputs:
            if self._meets_input(a, b):
                return
            a, b = self._without_ones(a), self._without_ones(b)
        left, right = only_atom(a), only_atom(b)
        if left is right and left is not None:
            return
        if isinstance(left, Var) and isinstance(right, Var):
            older, younger = sorted(
                (left, right), key=lambda var: (self._solves_inputs or var.input is None, var.index)
            )
            if not self.is_elastic(younger):
                self._settled.add(older)
            self._bind(younger, of(older))
        elif isinstance(left, Var):
            self._bind(left, b)
        elif isinstance(right, Var):
            self._bind(right, a)
        elif is_fixed(a) or is_fixed(b):
            self.pin(a, f"meets the fixed size {size(a)} in {self.site}")
            self.pin(b, f"meets the fixed size {size(a)} in {self.site}")
        elif len(a) > 1 or len(b) > 1:
            self._unify_blocks(a, b)
        else:
            self._unify_factors(list(a[0]), list(b[0]))

    def _bind(self, var: Var, value: Layout) -> None:
        if is_fixed(value) and not self.is_elastic(var):
            self.pin(of(var), f"meets the fixed size {var.size} in {self.site}")
            return
        if len(value) == 1 and var in value[0]:  # the sizes agree, so all other factors are of size 1
            self.pin((tuple([f for f in value[0] if f is not var]),), f"a factor of size 1 in {self.site}")
            return
        if var in atoms(value):
            raise Inexpressible(f"{var.name} would be a part of itself")
        self._value[var] = value
        pins = self._pins.pop(var, {})
        for other in atoms(self.resolve(value)):
            self._pins.setdefault(other, {}).update(pins)
        is_one = only_atom(value) is not None
        for other in atoms(value):
            if is_one and self.is_count(var):
                self._counts.add(other)
            self._tie(var, other)

    def _unify_blocks(self, a: Layout, b: Layout) -> None:
        """Concatenations: cut both at each other's seams, then block by block."""
        while a and b:
            head_a, head_b = measure_block(a[0], _var_size), measure_block(b[0], _var_size)
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
        """Products: split the larger of the two outermost factors, then factor by factor."""
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
            a, b = self._again(a), self._again(b)
        self.pin(((*a, *b),), f"a factor of size 1 in {self.site}")

    def _again(self, factors: list[Factor]) -> list[Factor]:
        return _factors(self.resolve((tuple(factors),))) if factors else []

    # -- taking apart ----------------------------------------------------------------------------

    def cut(self, layout: Layout, position: int) -> tuple[Layout, Layout]:
        """The parts before and after `position`, both non-empty; widths that it falls into are cut in two."""
        layout = self.resolve(layout)
        before: list[Layout] = []
        reached = 0
        for number, block in enumerate(layout):
            length = measure_block(block, _var_size)
            if reached + length > position:
                rest = layout[number + 1 :]
                if reached == position:
                    return concat(before), concat([(block,), rest])
                first, second = self._cut_block(block, position - reached)
                return concat([*before, first]), concat([second, rest])
            before.append((block,))
            reached += length
        raise Inexpressible(f"a cut at {position} lies outside a dimension of {reached}")

    def _cut_block(self, block: tuple[Factor, ...], position: int) -> tuple[Layout, Layout]:
        factor, rest = block[0], (block[1:],)
        ahead, inside = divmod(position, size(rest))
        if not inside:
            first, second = self._cut_factor(factor, ahead)
            return product([first, rest]), product([second, rest])
        # The cut falls inside one copy of `rest`: that one copy must stay alone.
        parts = []
        if ahead:
            first, factor_rest = self._cut_factor(factor, ahead)
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
        first = self.fresh(f"{var.name}[:{position}]", position, of_input=var.input)
        second = self.fresh(f"{var.name}[{position}:]", var.size - position, of_input=var.input)
        self._bind(var, (*of(first), *of(second)))
        return of(first), of(second)

    def split(self, layout: Layout, outer: int, kinds: tuple[Kind, Kind]) -> tuple[Layout, Layout]:
        """A dimension seen as `outer` rows: the layouts of (rows, one row).

        `kinds` says what a width that has to be split gets for either part: a "fixed" size (a literal of
        the model's code), a new "width", or a "count" of groups.

        Raises:
            Inexpressible: The rows would not be alike.
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

    def _split_block(self, factors: list[Factor], outer: int, kinds: tuple[Kind, Kind]) -> tuple[Layout, Layout]:
        rows: list[Layout] = []
        for number, factor in enumerate(factors):
            part = _as_layout(factor)
            length = size(part)
            if outer % length == 0:
                rows.append(part)
                outer //= length
                continue
            rest = [_as_layout(f) for f in factors[number + 1 :]]
            if outer == 1:
                return product(rows), product([part, *rest])
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
        var: Var = factor
        grouped = kinds[0] == "count"
        names = (
            (f"groups of {self.site}", f"{self.site} per group") if grouped else (f"{var.name}/rows", f"{var.name}/row")
        )
        first = self._part(names[0], outer, kinds[0], var.input)
        second = self._part(names[1], var.size // outer, kinds[1], var.input)
        self._bind(var, product([first, second]))
        return self.resolve(first), self.resolve(second)

    def _part(self, name: str, length: int, kind: Kind, of_input: InputDim | None) -> Layout:
        if kind == "fixed":
            return fixed(length)
        return of(self.fresh(name, length, count=kind == "count", of_input=of_input))

    def _split_blocks(self, layout: Layout, outer: int, row: int, kinds: tuple[Kind, Kind]) -> tuple[Layout, Layout]:
        lengths = [measure_block(block, _var_size) for block in layout]
        if all(length % row == 0 for length in lengths):  # whole rows in each block
            parts = [self.split(layout[i : i + 1], n // row, kinds) for i, n in enumerate(lengths)]
            for _, inner in parts[1:]:
                self.unify(parts[0][1], inner)
            return concat([self.resolve(rows) for rows, _ in parts]), self.resolve(parts[0][1])
        first, rest = self.cut(layout, row)  # else each row is cut from the whole, and all are made alike
        for left in range(outer - 1, 0, -1):
            this, rest = self.cut(rest, row) if left > 1 else (rest, ONE)
            self.unify(first, this)
            rest = self.resolve(rest)
        return fixed(outer), self.resolve(first)

    def split_into(self, layout: Layout, sizes: Sequence[int], kinds: Sequence[Kind]) -> list[Layout]:
        """A dimension seen as several, outermost first; as `split`, once per dimension."""
        parts: list[Layout] = []
        for number, length in enumerate(sizes[:-1]):
            later: Kind = "width" if any(kind != "fixed" for kind in kinds[number + 1 :]) else "fixed"
            rows, layout = self.split(layout, length, (kinds[number], later))
            parts.append(rows)
        parts.append(layout)
        return [self.resolve(part) for part in parts]


def _has_fixed_size(layout: Layout) -> bool:
    """Whether a layout is made of numbers and dimensions of inputs only."""
    return all(var.input is not None for var in atoms(layout))


def _as_layout(factor: Factor) -> Layout:
    return factor if isinstance(factor, tuple) else fixed(factor) if isinstance(factor, int) else of(factor)


def _factors(layout: Layout) -> list[Factor]:
    return list(layout[0]) if len(layout) == 1 else [layout]
