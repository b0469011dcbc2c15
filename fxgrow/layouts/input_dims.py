"""Dimensions of inputs: variables with a pin that a request lifts.

While the rules run, nothing is bound to such a variable. What is unified with it is pinned, and the equation is
deferred. `Unifier.with_inputs` solves the deferred equations for the requested dimensions and fixes all others,
so that one inference serves every request.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from .bindings import Bindings, LiftablePin, size
from .layout import ONE, InputDim, Layout, Var, atoms, fixed, of, only_atom, substitute

INPUT = "input "  # the name of the variable of dimension 1 of the argument `x` is "input x[1]"
OF_INPUT = ", that of the model's input "  # in the reason of a pin, before the label of the input


@dataclass(frozen=True, slots=True)
class DeferredEquation:
    """An equation with dimensions of inputs, solved when one of them is requested.

    Attributes:
        a: One side.
        b: The other side, of the same size.
        site: The operator that states it.
        inputs: The dimensions of inputs in it.
    """

    a: Layout
    b: Layout
    site: str
    inputs: frozenset[InputDim]


class InputBindings(Bindings):
    """Bindings with dimensions of inputs."""

    def __init__(self) -> None:
        super().__init__()
        self._deferred: list[DeferredEquation] = []
        self._solves_inputs = False  # whether equations with dimensions of inputs are solved instead of deferred

    def copy_whole(self, twin: InputBindings) -> None:
        """Copy the state to new bindings as it is."""
        twin._value, twin._pins = dict(self._value), {var: dict(pins) for var, pins in self._pins.items()}
        twin._number, twin._counts, twin._settled = self._number, set(self._counts), set(self._settled)
        twin._inputs, twin._deferred = list(self._inputs), list(self._deferred)

    def inputs_with_a_width(self) -> frozenset[InputDim]:
        """The dimensions of inputs that a width of the model has to equal, so that it takes no other size."""
        found: set[InputDim] = set()
        for equation in self._deferred:
            sides = [only_atom(self.resolve(layout)) for layout in (equation.a, equation.b)]
            inputs = [var.input for var in sides if isinstance(var, Var) and var.input is not None]
            if len(inputs) == 1 and all(isinstance(var, Var) for var in sides):
                found.update(inputs)
        return frozenset(found)

    def copy_solved(self, solved: InputBindings, lifted: AbstractSet[InputDim]) -> None:
        """Copy the state to new bindings in which the `lifted` dimensions are ordinary widths and all others fixed."""
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

    def fix_inputs(self, layouts: Sequence[Layout]) -> bool:
        """Fix the parts of dimensions of inputs in some layouts; if there are none, the dimensions themselves.

        A fixed size has several factorisations, a variable only one: 12 is 3 * 4 and 2 * 6.

        Returns:
            Whether anything was fixed.
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

    def defer_input(self, a: Layout, b: Layout) -> bool:
        """Defer an equation if one side consists of dimensions of inputs, and pin the other side.

        Returns:
            Whether the equation was deferred.
        """
        if self._solves_inputs:
            return False
        inputs = frozenset(var.input for var in (*atoms(a), *atoms(b)) if var.input is not None)
        if not inputs or not (_is_input_size(a) or _is_input_size(b)):
            return False
        if any(isinstance(var := only_atom(layout), Var) and self.is_elastic(var) for layout in (a, b)):
            return False  # elastic: takes the size of the other side
        self._deferred.append(DeferredEquation(a, b, self.site, inputs))
        pin = LiftablePin(f"meets the fixed size {size(a)} in {self.site}{_whose_size(a, b)}", inputs)
        for var in (*atoms(a), *atoms(b)):
            self._pins.setdefault(var, {}).setdefault(pin)
        return True

    def without_ones(self, layout: Layout) -> Layout:
        """The layout without dimensions of inputs of size 1; these are pinned."""
        ones = {var for var in atoms(layout) if var.input is not None and var.size == 1}
        if not ones:
            return layout
        for var in ones:
            self.pin(of(var), f"a factor of size 1 in {self.site}")
        return substitute(layout, lambda var: ONE if var in ones else of(var))


def _is_input_size(layout: Layout) -> bool:
    """Whether a layout consists of numbers and dimensions of inputs only."""
    return all(var.input is not None for var in atoms(layout))


def _whose_size(a: Layout, b: Layout) -> str:
    """Which input a width meets, where it meets the whole of one dimension."""
    for one, other in ((a, b), (b, a)):
        var = only_atom(one)
        if isinstance(var, Var) and var.input is not None and not _is_input_size(other):
            end = f"[{var.input[1]}]"
            label = var.name.removeprefix(INPUT).removesuffix(end)
            return f"{OF_INPUT}{label}" if var.name == f"{INPUT}{label}{end}" else ""
    return ""
