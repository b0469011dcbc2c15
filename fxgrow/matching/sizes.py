"""The width that each group is to have, from the sizes that the large model's tensors and attributes state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..infer.width_graph import WidthGraph
from ..layouts.layout import Layout, atoms, is_fixed, measure, show
from ..model.layer_kinds import CONVOLUTION, is_a
from ..model.walk import named_modules
from .names import Correspondence, Shapes

LONGEST = 120  # characters of a formula in a message


@dataclass(frozen=True, slots=True)
class Difference:
    """What growth cannot bridge.

    Attributes:
        name: A parameter, a setting of a layer, or a module, as the small model names it or, if it has none, the large.
        why: The reason.
    """

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name}: {self.why}" if self.name else self.why


@dataclass(frozen=True, slots=True)
class _Equation:
    """The size that a layout is to have.

    Attributes:
        layout: The layout.
        size: The size in the large model.
        place: Where it says so.
    """

    layout: Layout
    size: int
    place: str


@dataclass(slots=True)
class Sizes:
    """The widths that are wanted.

    Attributes:
        new: By group.
        kernels: By convolution, its kernel per axis, where that is another one.
        differences: Sizes that no widths give.
    """

    new: dict[str, int] = field(default_factory=dict)
    kernels: dict[str, tuple[int, ...]] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)


def solve(widths: WidthGraph, found: Correspondence, large: Shapes, tree: nn.Module | None) -> Sizes:
    """The widths that give the sizes of the large model.

    Args:
        widths: The small model's.
        found: Which tensors correspond.
        large: The shapes of the large model's tensors.
        tree: The large model, whose attributes tell of heads and groups; None where only tensors are known.
    """
    solver = _Solver(widths)
    equations = [
        *_of_tensors(widths, found, large, solver.sizes),
        *(_of_attributes(widths, found, tree) if tree is not None else ()),
    ]
    solver.solve(equations)
    return solver.sizes


def _of_tensors(widths: WidthGraph, found: Correspondence, large: Shapes, sizes: Sizes) -> Iterator[_Equation]:
    kernels = {
        f"{path}.weight".lstrip("."): path
        for path, module in named_modules(widths.traced.root)
        if is_a(module, CONVOLUTION)
    }
    for tensor in widths.tensors.values():
        other = found.tensors.get(tensor.name)
        if other is None:
            continue
        old, new = tuple(measure(la, widths.width) for la in tensor.layouts), large[other]
        if len(old) != len(new):
            sizes.differences.append(Difference(tensor.name, f"has {len(old)} dimensions, and {len(new)} there"))
            continue
        smaller = [dim for dim, (a, b) in enumerate(zip(old, new, strict=True)) if b < a]
        if smaller:
            why = f"{_brief(old)} -> {_brief(new)} would shrink, and growth does not"
            sizes.differences.append(Difference(tensor.name, why))
            continue
        dims = range(len(old))
        if tensor.name in kernels:
            dims = range(2)
            if old[2:] != new[2:]:
                sizes.kernels[kernels[tensor.name]] = new[2:]
        yield from (_Equation(tensor.layouts[dim], new[dim], f"{tensor.name}[{dim}]") for dim in dims)


def _of_attributes(widths: WidthGraph, found: Correspondence, tree: nn.Module) -> Iterator[_Equation]:
    theirs = dict(named_modules(tree))
    for attribute in widths.attributes:
        place = found.path(attribute.module)
        stated = None if place is None else getattr(theirs.get(place), attribute.name, None)
        values = tuple(stated) if isinstance(stated, tuple | list) else (stated,) * len(attribute.layouts)
        if len(values) == len(attribute.layouts):
            for layout, value in zip(attribute.layouts, values, strict=True):
                if not is_fixed(layout) and isinstance(value, int) and not isinstance(value, bool) and value > 0:
                    yield _Equation(layout, value, f"{attribute.module}.{attribute.name}".lstrip("."))


class _Solver:
    """Solves the equations one unknown at a time; those that stay are taken last, and then all by one factor."""

    def __init__(self, widths: WidthGraph) -> None:
        self.sizes = Sizes()
        self._widths = widths
        self._said: dict[str, str] = {}

    def solve(self, equations: list[_Equation]) -> None:
        """Find the sizes of all groups in the equations."""
        kept = self._run(equations)
        for stays in (lambda group: bool(group.pinned), lambda group: bool(group.deferred_to)):
            for name in {name for one in kept for name in self._unknown(one.layout)}:
                if stays(self._widths.groups_by_name[name]):
                    self._set(name, self._widths.width(name), "")
            kept = self._run(kept)
        while kept:  # several factors that the code does not tell apart grow by one factor
            self._by_one_factor(kept[0])
            kept = self._run(kept)

    def _run(self, equations: list[_Equation]) -> list[_Equation]:
        """Solve those with one unknown until none is left; those with more."""
        waiting = list(equations)
        while True:
            for one in waiting:
                self._keep(one)
            ready = [one for one in waiting if len(self._unknown(one.layout)) < 2]
            if not ready:
                return waiting
            waiting = [one for one in waiting if one not in ready]
            for one in sorted(ready, key=lambda one: len(list(atoms(one.layout)))):
                self._take(one)

    def _keep(self, one: _Equation) -> None:
        """Where a dimension keeps its size, so does each of its factors and parts, since none becomes smaller."""
        old = {name: self._widths.width(name) for name in self._unknown(one.layout)}
        if len(old) > 1 and self._measure(one.layout, old) == one.size:
            for name, size in old.items():
                self._set(name, size, one.place)

    def _unknown(self, layout: Layout) -> set[str]:
        return {name for name in atoms(layout) if name not in self.sizes.new}

    def _take(self, one: _Equation) -> None:
        unknown = self._unknown(one.layout)
        if unknown:
            (name,) = unknown
            size = _inverse(lambda size: self._measure(one.layout, {name: size}), one.size)
            if size is not None:
                self._set(name, size, one.place)
                return
        if unknown or self._measure(one.layout, {}) != one.size:
            known = {name: self.sizes.new[name] for name in atoms(one.layout) if name in self.sizes.new}
            places = "; ".join(f"{name} is {size}{self._where(name)}" for name, size in known.items())
            old = self._measure(one.layout, {n: self._widths.width(n) for n in atoms(one.layout)})
            made_of = f"{show(one.layout):.{LONGEST}}"
            places = f", where {places:.{LONGEST}}" if places else ""
            why = f"{old} -> {one.size} is no size of {made_of}{places}"
            self.sizes.differences.append(Difference(one.place, why))
            for name in unknown:
                self._set(name, self._widths.width(name), "")

    def _where(self, name: str) -> str:
        return f" by {self._said[name]}" if self._said.get(name) else ""

    def _set(self, name: str, size: int, place: str) -> None:
        self.sizes.new[name] = size
        self._said[name] = place

    def _measure(self, layout: Layout, more: Mapping[str, int]) -> int:
        return measure(layout, lambda name: more[name] if name in more else self.sizes.new[name])

    def _by_one_factor(self, one: _Equation) -> None:
        unknown = sorted(self._unknown(one.layout))
        factor = one.size / self._measure(one.layout, {n: self._widths.width(n) for n in unknown})
        for name in unknown[1:]:
            self._set(name, max(1, round(self._widths.width(name) * factor ** (1 / len(unknown)))), one.place)


def _inverse(function: Callable[[int], int], value: int) -> int | None:
    """The positive int for which a monotone function is a value; None where none is."""
    low, high = 1, max(value, 1)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if function(middle) < value else (low, middle)
    return low if function(low) == value else None


def _brief(shape: Any) -> str:
    return "x".join(map(str, shape)) or "scalar"
