"""In which group of which optimizer each parameter of the student is.

An old one is where the teacher's was. A new layer joins the group of the layer that it follows, a clone that of its
block. Groups often part weights from biases and gains (weight decay), so a parameter with no counterpart there joins
the group of the nearest parameter with as many dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from torch import Tensor

from ..plans.growth_plan import Plan

Entry = TypeVar("Entry")
GroupNumber = tuple[int, int]  # (which optimizer, which of its groups)


def groups_of_new(
    trained: Mapping[str, GroupNumber], parameters: Mapping[str, Tensor], plan: Plan
) -> dict[str, GroupNumber]:
    """The groups of the parameters that only the student has.

    Args:
        trained: The groups of the teacher's parameters, by their names in the student.
        parameters: The student's, in their order.
        plan: The plan, or the chain of plans, that made it.
    """
    known = dict(trained)
    place = {name: number for number, name in enumerate(parameters)}
    new = [name for name in parameters if name not in trained]
    for number, change in [(number, change) for number, step in enumerate(plan.steps) for change in step.changes]:
        source = plan.student_name(change.follows, number)
        for path in [plan.student_name(path, number) for path in change.new_paths]:
            for name in [name for name in new if name.startswith(f"{path}.")]:
                group = _group(name, path, (source, bool(change.original)), known, parameters, place)
                if group is not None:
                    known[name] = group
    return {name: known[name] for name in new if name in known}


def put_in_order(entries: list[Entry], new: Entry, place: Callable[[Entry], int]) -> None:
    """Put a new parameter of a group where a new optimizer of the student would have it, in place.

    Args:
        entries: The parameters of the group, or their names.
        new: One more.
        place: The place of each in the student; behind all others for one that is not in it.
    """
    before = [at for at, entry in enumerate(entries) if place(entry) < place(new)]
    entries.insert(before[-1] + 1 if before else 0, new)


def _group(
    name: str,
    path: str,
    origin: tuple[str, bool],
    known: Mapping[str, GroupNumber],
    parameters: Mapping[str, Tensor],
    place: Mapping[str, int],
) -> GroupNumber | None:
    """The group of a new parameter; `origin` is the module that the new one follows, and whether it is its clone."""
    dims = parameters[name].ndim
    source, is_clone = origin
    if is_clone and (twin := f"{source}{name.removeprefix(path)}") in known:
        return known[twin]
    others = [other for other in known if other in parameters]
    alike = [other for other in others if parameters[other].ndim == dims]
    similar = [other for other in others if (parameters[other].ndim > 1) == (dims > 1)]
    inside = [other for other in alike if other.startswith(f"{source}.")]
    nearest = _nearest(inside or alike or similar or others, place, place[name])
    return None if nearest is None else known[nearest]


def _nearest(names: Iterable[str], place: Mapping[str, int], here: int) -> str | None:
    return min(names, key=lambda name: abs(place[name] - here), default=None)
