"""Width groups, and what has to be true of their mappings.

A statement "this dimension is averaged over" allows equal replication only, with one ratio for all parts of
the dimension; where a part must stay, all must. Groups that share a ratio form a *ratio class*.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..layouts.layout import Block, Layout, atoms


@dataclass(frozen=True, slots=True)
class Group:
    """A set of dimensions that have one width, with one mapping of channels.

    Attributes:
        name: The layer that makes it, or that it first occurs in.
        size: Its width in the teacher.
        members: (parameter or buffer, dimension) of each tensor that it is a part of.
        pinned: Why it must keep its size; empty where it can grow.
        uniform: Why only equal replication is exact; empty where any mapping is.
        ratio: The groups that grow by the same factor as this one (uniform groups only).
        replicas: Why new channels must be replicas; empty where they may be anything.
        deferred_to: The group that grows instead, where both are factors of one dimension.
        count: Whether it is a number of rows: groups of a convolution, heads, or what a literal says.
        constant: Whether it is a dimension of constant values that meets no other.
    """

    name: str
    size: int
    members: tuple[tuple[str, int], ...] = ()
    pinned: tuple[str, ...] = ()
    uniform: tuple[str, ...] = ()
    ratio: frozenset[str] = frozenset()
    replicas: tuple[str, ...] = ()
    deferred_to: str = ""
    count: bool = False
    constant: bool = False


Constraint = tuple[Layout, str]


def constrain(
    groups: Mapping[str, Group],
    uniform: Sequence[Constraint],
    replicas: Sequence[Constraint],
    layouts: Iterable[Layout],
) -> dict[str, Group]:
    """The groups with `uniform`, `ratio`, `replicas`, `deferred_to` and the pins that follow from them.

    Args:
        groups: By name, with everything but those fields.
        uniform: Layouts of dimensions that are averaged over, and where.
        replicas: Layouts of dimensions where new channels must be replicas, and where.
        layouts: All layouts, for the products in which only one factor may grow.
    """
    ratios = _Ratios({name: list(group.pinned) for name, group in groups.items()})
    while sum(ratios.add(layout, reason) for layout, reason in uniform):  # until nothing is new
        pass
    reasons: dict[str, dict[str, None]] = {}
    for layout, reason in replicas:
        for name in atoms(layout):
            reasons.setdefault(name, {}).setdefault(reason)
    done = {
        name: replace(
            group,
            pinned=tuple(ratios.pins[name]),
            uniform=tuple(ratios.uniform.get(name, ())),
            ratio=frozenset(ratios.members(name)),
            replicas=tuple(reasons.get(name, ())),
            deferred_to="",
        )
        for name, group in groups.items()
    }
    return _defer(done, layouts)


class _Ratios:
    """Union-find of uniform groups, with the pins that one ratio for all of them brings."""

    def __init__(self, pins: dict[str, list[str]]) -> None:
        self.pins = pins
        self.uniform: dict[str, dict[str, None]] = {}
        self._class: dict[str, set[str]] = {}

    def members(self, name: str) -> set[str]:
        return self._class.get(name, set())

    def add(self, layout: Layout, reason: str) -> bool:
        """Take in a statement; whether anything is new."""
        before = (sum(map(len, self.pins.values())), sum(map(len, self._class.values())))
        leaders: list[str] = []
        for block in layout:
            free = [f for f in block if isinstance(f, str) and not self.pins[f]]
            nested = [name for f in block if isinstance(f, tuple) for name in atoms(f)]
            for name in nested:
                self._pin(name, f"{reason}, as one part of several")
            if len(layout) == 1:
                for name in free:
                    self._unite([name], reason)
            elif free:
                leaders.append(free[0])
                for name in free[1:]:
                    self._pin(name, f"{reason}, as one factor of several")
        if len(layout) > 1:
            if len(leaders) < len(layout):
                for name in leaders:
                    self._pin(name, f"{reason}, together with a part that must stay")
            else:
                self._unite(leaders, reason)
        return before != (sum(map(len, self.pins.values())), sum(map(len, self._class.values())))

    def _pin(self, name: str, reason: str) -> None:
        for member in self.members(name) or {name}:  # one ratio: if one stays, all stay
            if reason not in self.pins[member]:
                self.pins[member].append(reason)

    def _unite(self, names: Sequence[str], reason: str) -> None:
        together: set[str] = set()
        for name in names:
            together |= self._class.get(name, {name})
            self.uniform.setdefault(name, {}).setdefault(reason)
        for name in together:
            self._class[name] = together


def _defer(groups: dict[str, Group], layouts: Iterable[Layout]) -> dict[str, Group]:
    """Of several factors of one block that could grow, one does.

    One that must, because it is the only one in another block (heads, where the queries' and keys' size is compared);
    then a width before a number of rows, a free one before a uniform one, the wider first.
    """
    blocks = list(_blocks(layouts))
    sole = {names[0] for block in blocks if len(names := _growing(groups, block)) == 1}
    for block in blocks:
        names = _growing(groups, block)
        if len(names) > 1:
            best = max(names, key=lambda n: (n in sole, not groups[n].count, not groups[n].uniform, groups[n].size))
            for name in names:
                if name != best:
                    groups[name] = replace(groups[name], deferred_to=best)
    return groups


def _blocks(layouts: Iterable[Layout]) -> Iterator[Block]:
    """Every block, also those inside factors."""
    for layout in layouts:
        for block in layout:
            yield block
            yield from _blocks([factor for factor in block if isinstance(factor, tuple)])


def _growing(groups: Mapping[str, Group], block: Block) -> list[str]:
    return [n for n in dict.fromkeys(f for f in block if isinstance(f, str)) if can_grow(groups[n])]


def can_grow(group: Group) -> bool:
    """Whether nothing pins the group and no other grows instead."""
    return not group.pinned and not group.deferred_to
