"""What the check of a student found: the calls that are not as predicted, and what follows for the plan."""

from __future__ import annotations

from dataclasses import dataclass

from ..layouts.layout import Layout
from ..model.tree import Mode


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A place where a student departs from its plan.

    Attributes:
        site: Where.
        problem: What happens there.
        groups: The widths that meet there.
        module: The innermost module whose code is no layer's.
        around: The widths that grow in that module.
        idle: The widths that could grow there and do not: at the call, or else in that module.
        equal: Pairs of layouts whose sizes are one in the teacher, and would be in the student if the code cuts a
            dimension into equal parts there.
        wrong: Those of `groups` in the dimensions that have another size; empty where that says nothing.
        guessed: Whether no call says which widths meet there: `groups` are those of the next call, or all around.
    """

    site: str
    problem: str
    groups: tuple[str, ...]
    module: str
    around: tuple[str, ...]
    equal: tuple[tuple[Layout, Layout], ...] = ()
    idle: tuple[tuple[str, ...], ...] = ()
    guessed: bool = False
    wrong: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.problem} at {self.site}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a check.

    Attributes:
        mismatches: Where the student departs from its plan; empty where it does not.
        obsolete: (mode, node) of guards that the student's own widths would trip.
        reached: The modules whose code ran.
    """

    mismatches: tuple[Mismatch, ...]
    obsolete: tuple[tuple[Mode, str], ...]
    reached: frozenset[str]
