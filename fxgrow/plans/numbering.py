"""Where modules and tensors stand in a student whose containers are numbered through, by arithmetic on names alone.

A plan names the modules of the teacher, and clones after what they are clones of: `layers.1_deeper1`. In the user's own
class a clone of an entry of a Sequential or ModuleList is an entry, too, and all entries are named by their places:
`layers.1_deeper1` is `layers.2`, and what was `layers.2` is `layers.3`. The parts of a new layer that is flat are
entries as well: `features.0_deeper1.conv` and `features.0_deeper1.act`, behind `features.1`, are `features.2` and
`features.3`. Names may have a stem: behind `layers.block_1` stands `layers.block_2`.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .changes import StructuralChange

PLACE = re.compile(r"(.*?)(\d+)")  # a name by its stem and its place


@dataclass(frozen=True)
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
            if change.numbered_behind:
                parent, _, own = change.numbered_behind.rpartition(".")
                inside = behind.setdefault(parent, {})
                names = tuple(path.removeprefix(f"{parent}.") for path in change.new_paths)
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
            if "." in flat and parent in self._containers and flat in self._containers[parent].places:
                own, at = flat, at + 1
            yield self.entry(parent, own)
            at += 1

    def entry(self, parent: str, own: str) -> str:
        """The name of an entry of a container; of a flat layer that of its first part."""
        container = self._containers.get(parent)
        if container is None:
            return own
        old, more = container.places.get(container.first.get(own, ""), (own, 0))
        match = PLACE.fullmatch(old)
        if match is None:
            return own
        return f"{match[1]}{int(match[2]) + more + container.new_before(match[1], int(match[2]))}"

    def flat(self, parent: str) -> frozenset[str]:
        """The layers in a container whose parts are its entries."""
        new = [name.partition(".") for names in self.behind.get(parent, {}).values() for name in names]
        return frozenset(own for own, dot, _ in new if dot)

    @functools.cached_property
    def _containers(self) -> Mapping[str, _Container]:
        return {parent: _Container.of(behind) for parent, behind in self.behind.items()}


@dataclass(frozen=True, slots=True)
class _Container:
    """The new entries of a container.

    Attributes:
        places: For each of them the entry that it stands behind, and its number among those.
        first: For each name, and for that of a flat layer, the first of them that is called so or is a part of it.
        sums: For each stem the places behind which some stand, ascending, and how many stand before each of these, and
            behind the last one in all.
    """

    places: Mapping[str, tuple[str, int]]
    first: Mapping[str, str]
    sums: Mapping[str, tuple[list[int], list[int]]]

    @classmethod
    def of(cls, behind: Mapping[str, Sequence[str]]) -> _Container:
        places = {new: (entry, at) for entry, several in behind.items() for at, new in enumerate(several, 1)}
        first: dict[str, str] = {}
        for new in places:
            steps = new.split(".")
            for end in range(1, len(steps) + 1):
                first.setdefault(".".join(steps[:end]), new)
        counts: dict[str, dict[int, int]] = {}
        for entry, several in behind.items():
            if (match := PLACE.fullmatch(entry)) is not None:
                of_stem = counts.setdefault(match[1], {})
                of_stem[int(match[2])] = of_stem.get(int(match[2]), 0) + len(several)
        sums = {
            stem: (sorted(of_stem), [0, *itertools.accumulate(of_stem[number] for number in sorted(of_stem))])
            for stem, of_stem in counts.items()
        }
        return cls(places, first, sums)

    def new_before(self, stem: str, number: int) -> int:
        """How many new entries stand behind those of a stem with a smaller number."""
        numbers, before = self.sums.get(stem, ([], [0]))
        return before[bisect.bisect_left(numbers, number)]
