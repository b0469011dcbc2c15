"""Where modules and tensors stand in a student whose containers are numbered through, by arithmetic on names alone.

A plan names the modules of the teacher, and clones after what they are clones of: `layers.1_deeper1`. In the user's own
class a clone of an entry of a Sequential or ModuleList is an entry, too, and all entries are named by their places:
`layers.1_deeper1` is `layers.2`, and what was `layers.2` is `layers.3`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .changes import CLONE, Repeat, StructuralChange


@dataclass(frozen=True, slots=True)
class Numbering:
    """The names of a student in terms of those of its plan.

    Attributes:
        clones: For each container that is numbered through, the number of clones behind each entry that has some.
    """

    clones: Mapping[str, Mapping[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, changes: Iterable[StructuralChange]) -> Numbering:
        """What the changes of a plan do to names."""
        clones: dict[str, dict[int, int]] = {}
        for change in changes:
            if isinstance(change, Repeat) and change.numbered:
                parent, _, own = change.block.rpartition(".")
                behind = clones.setdefault(parent, {})
                behind[int(own)] = behind.get(int(own), 0) + len(change.paths)
        return cls(clones)

    def __call__(self, name: str) -> str:
        """The student's name of a module or tensor, from the teacher's or from that of a clone in the plan."""
        steps = name.split(".")
        if not self.clones:
            return name
        renamed = [self.entry(".".join(steps[:i]), step) for i, step in enumerate(steps)]
        return ".".join(renamed)

    def entry(self, parent: str, own: str) -> str:
        """The name of an entry of a container."""
        match = re.fullmatch(rf"(\d+)(?:{CLONE}(\d+))?", own)
        if parent not in self.clones or match is None:
            return own
        number, clone = int(match[1]), int(match[2] or 0)
        if clone and number not in self.clones[parent]:  # a new layer behind a layer, which is no clone
            return own
        return str(number + clone + sum(count for at, count in self.clones[parent].items() if at < number))
