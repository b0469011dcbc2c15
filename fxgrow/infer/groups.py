"""Width groups, and what has to be true of their mappings.

A statement "this dimension is averaged over" allows equal replication only, with one ratio for all parts of
the dimension; where a part must stay, all must. Groups that share a ratio form a *ratio class*.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from ..layouts.layout import Block, Layout, atoms, blocks_of


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
        zero_columns: Why new columns of the weights that sum over it must be zero; empty where they need not.
        zero_rows: The same of the new rows of the weights that make it.
        nonzero_rows: Why new rows must not be zero.
        deferred_to: The group that grows instead, where both are factors of one dimension.
        count: Whether it is a number of rows: groups of a convolution, heads, or what a literal says.
        constant: Whether it is a dimension of constant values that meets no other.
        former: Its name in earlier versions, which can still be asked for; empty where that is its name.
    """

    name: str
    size: int
    members: tuple[tuple[str, int], ...] = ()
    pinned: tuple[str, ...] = ()
    uniform: tuple[str, ...] = ()
    ratio: frozenset[str] = frozenset()
    replicas: tuple[str, ...] = ()
    zero_columns: tuple[str, ...] = ()
    zero_rows: tuple[str, ...] = ()
    nonzero_rows: tuple[str, ...] = ()
    deferred_to: str = ""
    count: bool = False
    constant: bool = False
    former: str = ""


Constraint = tuple[Layout, str]  # dimensions, and where or why


@dataclass(frozen=True, slots=True)
class Constraints:
    """What has to be true of new channels, by the dimensions that hold them.

    Attributes:
        uniform: Dimensions that are averaged over.
        replicas: Those where new channels must be replicas.
        zero_columns: Those where the new columns of weights must be zero.
        zero_rows: Those where the new rows of weights must be zero.
        nonzero_rows: Those where they must not be zero.
        notes: What a user should know where one grows.
    """

    uniform: tuple[Constraint, ...] = ()
    replicas: tuple[Constraint, ...] = ()
    zero_columns: tuple[Constraint, ...] = ()
    zero_rows: tuple[Constraint, ...] = ()
    nonzero_rows: tuple[Constraint, ...] = ()
    notes: tuple[Constraint, ...] = ()


FACTOR = "as one factor of several"  # why a factor stays where only one of a dimension may grow


def constrain(
    groups: Mapping[str, Group],
    stated: Constraints,
    layouts: Iterable[Layout],
    preferred: AbstractSet[str] = frozenset(),
) -> dict[str, Group]:
    """The groups with all that is stated of them, and the pins that follow from it.

    Args:
        groups: By name; only `size`, `members`, `pinned`, `count` and `constant` are read.
        stated: What has to be true of them.
        layouts: All layouts, for the products in which only one factor may grow.
        preferred: The factors that are to grow where one of several may.
    """
    layouts = list(layouts)
    replicas, columns, rows, nonzero = (
        _by_name(some) for some in (stated.replicas, stated.zero_columns, stated.zero_rows, stated.nonzero_rows)
    )
    pins = {name: list(group.pinned) for name, group in groups.items()}
    for name, reason in (
        *_contradictions(replicas, columns, rows, nonzero),
        *_mixed(groups, replicas, columns, layouts),
    ):
        if not pins[name]:
            pins[name].append(reason)
    ratios = _Ratios(pins, preferred)
    while sum(ratios.add(layout, reason) for layout, reason in stated.uniform):  # until nothing is new
        pass
    done = {
        name: replace(
            group,
            pinned=tuple(ratios.pins[name]),
            uniform=tuple(ratios.uniform.get(name, ())),
            ratio=frozenset(ratios.members(name)),
            replicas=tuple(replicas.get(name, ())),
            zero_columns=tuple(columns.get(name, ())),
            zero_rows=tuple(rows.get(name, ())),
            nonzero_rows=tuple(nonzero.get(name, ())),
            deferred_to="",
        )
        for name, group in groups.items()
    }
    return _defer(done, layouts, preferred)


_Reasons = dict[str, dict[str, None]]  # of groups, by name, in order


def _by_name(constraints: Iterable[Constraint]) -> _Reasons:
    reasons: _Reasons = {}
    for layout, reason in constraints:
        for name in atoms(layout):
            reasons.setdefault(name, {}).setdefault(reason)
    return reasons


def _contradictions(
    replicas: _Reasons, columns: _Reasons, rows: _Reasons, nonzero: _Reasons
) -> Iterator[tuple[str, str]]:
    """The groups for whose new channels there is no filling, and why."""
    for zero, other, needs in (
        (columns, replicas, "needs replicas"),
        (rows, replicas, "needs replicas"),
        (rows, nonzero, "needs rows that are not zero"),
    ):
        for name in sorted(zero.keys() & other.keys()):
            yield name, f"{next(iter(zero[name]))}, which zeros leave alone, and {next(iter(other[name]))} {needs}"


def _mixed(
    groups: Mapping[str, Group], replicas: _Reasons, columns: _Reasons, layouts: Iterable[Layout]
) -> Iterator[tuple[str, str]]:
    """The groups whose columns must be zero in one dimension with others that need replicas; these are filled alike."""
    for block in blocks_of(layouts) if columns else ():
        names = [n for n in dict.fromkeys(atoms((block,))) if not groups[n].pinned]
        if any(name in replicas for name in names):
            for name in names:
                if name in columns:
                    yield name, f"{next(iter(columns[name]))}, {FACTOR}"


class _Ratios:
    """Union-find of uniform groups, with the pins that one ratio for all of them brings."""

    def __init__(self, pins: dict[str, list[str]], preferred: AbstractSet[str]) -> None:
        self.pins = pins
        self._preferred = preferred
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
                free.sort(key=lambda name: name not in self._preferred)
                leaders.append(free[0])
                for name in free[1:]:
                    self._pin(name, f"{reason}, {FACTOR}")
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


def _defer(groups: dict[str, Group], layouts: Iterable[Layout], preferred: AbstractSet[str]) -> dict[str, Group]:
    """Of several factors of one block that could grow, one does.

    A preferred one; else one that must, because it is the only one in another block (heads, where the queries' and
    keys' size is compared); then a width before a number of rows, a free one before a uniform one, the wider first.
    """
    blocks = list(blocks_of(layouts))
    sole = {names[0] for block in blocks if len(names := _growing(groups, block)) == 1}
    for block in blocks:
        names = _growing(groups, block)
        if len(names) > 1:
            best = max(
                names,
                key=lambda n: (n in preferred, n in sole, not groups[n].count, not groups[n].uniform, groups[n].size),
            )
            for name in names:
                if name != best:
                    groups[name] = replace(groups[name], deferred_to=best)
    return groups


def _growing(groups: Mapping[str, Group], block: Block) -> list[str]:
    return [n for n in dict.fromkeys(f for f in block if isinstance(f, str)) if can_grow(groups[n])]


def can_grow(group: Group) -> bool:
    """Whether nothing pins the group and no other grows instead."""
    return not group.pinned and not group.deferred_to
