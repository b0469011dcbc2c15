"""Which widths each group may have, and which groups grow only together: what a budget chooses from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ..infer.width_graph import WidthGraph
from ..spec.parse import Widen
from .asked_widths import next_width


@dataclass(frozen=True, slots=True)
class Ladder:
    """The widths that a group may have: the old one, then from `first` on in equal steps."""

    old: int
    first: int
    step: int

    def floor(self, width: float) -> int:
        """The largest of them that is at most `width`."""
        if width < self.first:
            return self.old
        return self.first + (math.floor(width) - self.first) // self.step * self.step

    def above(self, width: int) -> int:
        """The next one."""
        return self.first if width < self.first else width + self.step


@dataclass(frozen=True, slots=True)
class Unit:
    """Groups that grow together, by about one factor.

    Attributes:
        ladders: By the name of a group the widths that it may have.
    """

    ladders: Mapping[str, Ladder]

    def at(self, factor: float) -> dict[str, int]:
        """The widths of the groups that grow by at most a factor."""
        return {name: ladder.floor(ladder.old * factor * (1 + 1e-12)) for name, ladder in self.ladders.items()}

    def next_factor(self, sizes: Mapping[str, int]) -> float:
        """The smallest factor at which one of the groups is wider than in `sizes`."""
        return min(ladder.above(sizes[name]) / ladder.old for name, ladder in self.ladders.items())


def units(widths: WidthGraph, request: Widen, names: Iterable[str]) -> list[Unit]:
    """The groups that can grow as a request says, with those that must grow with them.

    Args:
        widths: The width graph.
        request: It says which multiples there may be.
        names: The groups that the request may widen.
    """
    free = dict.fromkeys(names)
    found = []
    for together in _together(widths, free):
        ladders = {name: _ladder(widths, request, name) for name in together}
        fit = {name: ladder for name, ladder in ladders.items() if ladder is not None}
        if len(fit) == len(together):
            found.append(Unit(fit))
    return found


def _together(widths: WidthGraph, free: Mapping[str, None]) -> Iterator[tuple[str, ...]]:
    """The free groups, those as one that the width graph ties to one factor or to equal sizes."""
    classes: dict[str, set[str]] = {name: {name} for name in free}
    for tied in [*(group.ratio for group in widths.groups_by_name.values()), *(one.names for one in widths.equal)]:
        joined: set[str] = set().union(*(classes[name] for name in tied if name in free))
        for name in joined:
            classes[name] = joined
    seen: set[str] = set()
    for name in free:
        if name not in seen:
            seen |= classes[name]
            yield tuple(other for other in free if other in classes[name])


def _ladder(widths: WidthGraph, request: Widen, name: str) -> Ladder | None:
    old = widths.width(name)
    first = next_width(widths, request, name, old + 1)
    second = None if first is None else next_width(widths, request, name, first + 1)
    return None if first is None or second is None else Ladder(old, first, second - first)
