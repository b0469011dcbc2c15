"""Where modules and tensors stand in a student whose containers are numbered through, by arithmetic on names alone.

A plan names the modules of the teacher, and clones after what they are clones of: `layers.1_deeper1`. In the user's own
class a clone of an entry of a Sequential or ModuleList is an entry, too, and all entries are named by their places:
`layers.1_deeper1` is `layers.2`, and what was `layers.2` is `layers.3`. The parts of a new layer that is flat are
entries as well: `features.0_deeper1.conv` and `features.0_deeper1.act`, behind `features.1`, are `features.2` and
`features.3`. Names may have a stem: behind `layers.block_1` stands `layers.block_2`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from .changes import Insert, Repeat, StructuralChange

PLACE = re.compile(r"(.*?)(\d+)")  # a name by its stem and its place


@dataclass(frozen=True, slots=True)
class Numbering:
    """The names of a student in terms of those of its plan.

    Attributes:
        behind: For each container that is numbered through, the new entries behind each entry that has some, in order,
            by their names in the plan; that of a part of a flat layer is that of the layer and its own.
    """

    behind: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)

    @classmethod
    def of(cls, changes: Iterable[StructuralChange]) -> Numbering:
        """What the changes of a plan do to names."""
        behind: dict[str, dict[str, tuple[str, ...]]] = {}
        for change in changes:
            entry, new = _new_entries(change)
            if new:
                parent, _, own = entry.rpartition(".")
                inside = behind.setdefault(parent, {})
                names = tuple(path.removeprefix(f"{parent}.") for path in new)
                inside[own] = (*inside.get(own, ()), *names)
        return cls(behind)

    def __call__(self, name: str) -> str:
        """The student's name of a module or tensor, from the teacher's or from that of a new one in the plan."""
        return ".".join(self._steps(name.split("."))) if self.behind else name

    def _steps(self, steps: list[str]) -> Iterator[str]:
        at = 0
        while at < len(steps):
            parent, own = ".".join(steps[:at]), steps[at]
            flat = ".".join(steps[at : at + 2])
            if "." in flat and flat in self._places(parent):
                own, at = flat, at + 1
            yield self.entry(parent, own)
            at += 1

    def entry(self, parent: str, own: str) -> str:
        """The name of an entry of a container; of a flat layer that of its first part."""
        behind = self.behind.get(parent)
        if behind is None:
            return own
        place = next((f"{at}" for at in self._places(parent) if at == own or at.startswith(f"{own}.")), None)
        old, more = self._places(parent)[place] if place is not None else (own, 0)
        match = PLACE.fullmatch(old)
        if match is None:
            return own
        before = (len(new) for entry, new in behind.items() if _is_before(entry, match[1], int(match[2])))
        return f"{match[1]}{int(match[2]) + more + sum(before)}"

    def flat(self, parent: str) -> frozenset[str]:
        """The layers in a container whose parts are its entries."""
        new = [name.partition(".") for names in self.behind.get(parent, {}).values() for name in names]
        return frozenset(own for own, dot, _ in new if dot)

    def _places(self, parent: str) -> dict[str, tuple[str, int]]:
        """For each new entry the one that it stands behind, and its number among those."""
        behind = self.behind.get(parent, {})
        return {new: (entry, at) for entry, several in behind.items() for at, new in enumerate(several, 1)}


def _is_before(entry: str, stem: str, number: int) -> bool:
    match = PLACE.fullmatch(entry)
    return match is not None and match[1] == stem and int(match[2]) < number


def _new_entries(change: StructuralChange) -> tuple[str, tuple[str, ...]]:
    """The entry that new ones of a numbered container stand behind, and these; none where names stay."""
    if isinstance(change, Repeat) and change.numbered:
        return change.block, change.paths
    if isinstance(change, Insert) and change.flat:
        return change.entry, change.new_paths
    return "", ()
