"""Width variables and their bindings: the union-find with substitution that unification works on.

A variable is free, or bound to a layout of other variables: ``a`` to ``b`` when the two are one width, to ``b + c``
when it was cut, to ``x*y`` when it was split. Pins and ties belong to this state: a pin moves to the variables that
its variable is bound to.
"""

from __future__ import annotations

from dataclasses import dataclass

from .layout import InputDim, Layout, Var, atoms, is_fixed, measure, of, only_atom, substitute


class Inexpressible(Exception):
    """The constraint has no solution in the language of layouts; the caller must pin the dimensions."""


@dataclass(frozen=True, slots=True)
class Tie:
    """An edge of the graph that explains widths: an operator related two variables.

    Attributes:
        a: One variable.
        b: The other one: the same width, or a part or a factor of it.
        site: The operator and its location in the model.
    """

    a: Var
    b: Var
    site: str


@dataclass(frozen=True, slots=True)
class LiftablePin:
    """A pin that holds as long as some dimensions of inputs are fixed.

    Attributes:
        reason: The reason, for messages.
        inputs: The dimensions of inputs; a request for one of them lifts the pin.
    """

    reason: str
    inputs: frozenset[InputDim]


def size(layout: Layout) -> int:
    """The size of a dimension whose atoms are `Var`."""
    return measure(layout, var_size)


def var_size(var: Var) -> int:
    """The size of a variable in the teacher."""
    return var.size


class Bindings:
    """The value of each width variable, and the reasons for which it is pinned.

    Attributes:
        site: The operator that is being analysed; recorded in ties and in reasons.
        ties: All ties so far, for `WidthGraph.why`.
    """

    def __init__(self) -> None:
        self.site = ""
        self.ties: list[Tie] = []
        self._value: dict[Var, Layout] = {}
        self._pins: dict[Var, dict[str | LiftablePin, None]] = {}
        self._number = 0
        self._counts: set[Var] = set()  # variables that are a count because they were unified with one
        self._settled: set[Var] = set()  # elastic variables that were unified with one that is not
        self._inputs: list[Var] = []  # dimensions of inputs, and their parts
        self._places: dict[Var, str] = {}  # where each variable was bound or pinned first
        self.divisions = 0  # how often a width was cut or split

    def fresh(
        self, name: str, size: int, *, count: bool = False, elastic: bool = False, of_input: InputDim | None = None
    ) -> Var:
        """A new free variable; see `Var` for the arguments."""
        self._number += 1
        var = Var(name, size, self._number, count, elastic, of_input)
        if of_input is not None:
            self._inputs.append(var)
        return var

    def resolve(self, layout: Layout) -> Layout:
        """The layout with bound variables replaced by their values, so that only free ones remain."""
        if len(layout) == 1 and len(layout[0]) == 1:  # fast path: most layouts are one variable
            factor = layout[0][0]
            if isinstance(factor, Var):
                return self._root(factor) if factor in self._value else layout
        if not self._bound_in(layout):
            return layout
        return substitute(layout, self._root)

    def _root(self, var: Var) -> Layout:
        """The value of a variable, fully resolved; stored again, which compresses the path.

        Not by recursion: of a tensor that is split into many parts, the value of each part has that of the next.
        """
        pending = [var] if var in self._value else []
        while pending:
            value = self._value[pending[-1]]
            bound = self._bound_in(value)
            deeper = [one for one in bound if self._bound_in(self._value[one])]
            if deeper:
                pending += deeper
                continue
            if bound:
                self._value[pending[-1]] = substitute(value, self._known)
            pending.pop()
        return self._known(var)

    def _bound_in(self, layout: Layout) -> list[Var]:
        return [var for var in atoms(layout) if var in self._value]

    def _known(self, var: Var) -> Layout:
        value = self._value.get(var)
        return of(var) if value is None else value

    def reasons(self, var: Var) -> tuple[str, ...]:
        """The reasons for which a variable is pinned; empty if it may grow."""
        return tuple(dict.fromkeys(p.reason if isinstance(p, LiftablePin) else p for p in self._pins.get(var, ())))

    def is_free(self, var: Var) -> bool:
        """Whether a variable is a width that nothing binds, and nothing but fixed inputs pins."""
        return var.input is None and self.is_open(var)

    def is_open(self, var: Var) -> bool:
        """The same of a width or a dimension of an input."""
        return var.index <= self._number and var not in self._value and not self._is_pinned(var)

    def _is_pinned(self, var: Var) -> bool:
        return any(isinstance(pin, str) for pin in self._pins.get(var, ()))

    def told_since(self, base: Bindings) -> dict[Var, str]:
        """The variables that were open in earlier bindings and are bound or pinned here, each with the place."""
        told = [var for var in (*self._value, *self._pins) if var in self._value or self._is_pinned(var)]
        return {var: self._places.get(var, "") for var in told if base.is_open(var)}

    def is_count(self, var: Var) -> bool:
        """Whether a variable is a number of rows: groups, heads, or a literal."""
        return var.count or var in self._counts

    def is_elastic(self, var: Var) -> bool:
        """Whether a variable is a dimension of constant values that was not unified with any other."""
        return var.elastic and var not in self._settled

    def pin(self, layout: Layout, reason: str) -> None:
        """Pin every variable of the layout to its size, for this reason."""
        for var in atoms(self.resolve(layout)):
            self._pins.setdefault(var, {}).setdefault(reason)
            self._places.setdefault(var, self.site)

    def tie(self, a: Var, b: Var) -> None:
        """Record that the operator at `site` related two variables."""
        if a is not b:
            self.ties.append(Tie(a, b, self.site))

    def bind(self, var: Var, value: Layout) -> None:
        """Bind a free variable to a resolved layout of the same size; pin it instead if the layout is fixed.

        Raises:
            Inexpressible: The variable occurs in the layout, beside factors or parts of other sizes.
        """
        if is_fixed(value) and not self.is_elastic(var):
            self.pin(of(var), f"meets the fixed size {var.size} in {self.site}")
            return
        if len(value) == 1 and var in value[0]:  # the sizes agree, so all other factors are of size 1
            self.pin((tuple([f for f in value[0] if f is not var]),), f"a factor of size 1 in {self.site}")
            return
        if var in atoms(value):
            raise Inexpressible(f"{var.name} would be a part of itself")
        self._value[var] = value
        self._places.setdefault(var, self.site)
        pins = self._pins.pop(var, {})
        for other in atoms(self.resolve(value)):
            self._pins.setdefault(other, {}).update(pins)
        renamed = only_atom(value) is not None
        for other in atoms(value):
            if renamed and self.is_count(var):
                self._counts.add(other)
            self.tie(var, other)
