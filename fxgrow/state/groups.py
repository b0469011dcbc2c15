"""In which group of which optimizer each parameter of the student is.

An old one is where the teacher's was, and a clone where its block is. A parameter of a new layer is where the layer
that it follows has one of its kind. Where that has none (a new bias behind a layer without one), it joins the group of
that layer, if others of its kind are there, or else a group of its kind: groups often part biases from weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from torch import Tensor

from ..errors import GrowError
from ..plans.growth_plan import Plan

Entry = TypeVar("Entry")
GroupNumber = tuple[int, int]  # (which optimizer, which of its groups)


def groups_of_new(
    trained: Mapping[str, GroupNumber],
    parameters: Mapping[str, Tensor],
    plan: Plan,
    takes: Callable[[int, Tensor], bool] = lambda number, parameter: True,
) -> dict[str, GroupNumber]:
    """The groups of the parameters that only the student has.

    Args:
        trained: The groups of the teacher's parameters, by their names in the student.
        parameters: The student's, in their order.
        plan: The plan, or the chain of plans, that made it.
        takes: Whether an optimizer, by its number, can train a new parameter.

    Raises:
        GrowError: No optimizer can train one of them.
    """
    known = dict(trained)
    place = {name: number for number, name in enumerate(parameters)}
    new = [name for name in parameters if name not in trained]
    for number, change in [(number, change) for number, step in enumerate(plan.steps) for change in step.changes]:
        source = plan.student_name(change.follows, number)
        for path in [plan.student_name(path, number) for path in change.new_paths]:
            for name in [name for name in new if name.startswith(f"{path}.")]:
                twin = f"{source}{name.removeprefix(path)}" if change.original else ""
                group = known.get(twin) or _group(name, source, known, parameters, place, takes)
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
    source: str,
    known: Mapping[str, GroupNumber],
    parameters: Mapping[str, Tensor],
    place: Mapping[str, int],
    takes: Callable[[int, Tensor], bool],
) -> GroupNumber | None:
    """The group of a parameter of a new layer, which follows the layer `source`; None where nothing is trained.

    Raises:
        GrowError: There are groups, and none can train it.
    """
    others = [other for other in known if other in parameters and takes(known[other][0], parameters[name])]
    if known and not others:
        raise GrowError(
            f"no optimizer that is given can train the new {name!r} of shape {tuple(parameters[name].shape)} (Muon "
            "trains matrices alone, SparseAdam what has sparse gradients): give one that can as well, optimizer=[...], "
            "or make new ones for the student"
        )
    behind = [other for other in others if other.startswith(f"{source}.")]
    homes = {known[other] for other in behind}
    apart = {known[other] for other in others} - {
        known[other] for other in others if (parameters[other].ndim > 1) != (parameters[name].ndim > 1)
    }
    kinds = _kinds(name, parameters)
    alike = [[other for other in others if _kinds(other, parameters)[n] == kind] for n, kind in enumerate(kinds)]
    for same in alike:
        for chosen in (
            [other for other in same if other in behind],
            [other for other in same if known[other] in homes],
            [other for other in same if known[other] in apart],
        ):
            if chosen:
                return known[_nearest(chosen, place, place[name])]
    nearest = next(filter(None, [behind, *alike, others]), [])
    return known[_nearest(nearest, place, place[name])] if nearest else None


def _kinds(name: str, parameters: Mapping[str, Tensor]) -> tuple[tuple[object, ...], ...]:
    """What a parameter is, the most exact first: a bias or a weight, of a norm or not, and its dimensions."""
    path, _, key = name.rpartition(".")
    dims, weight = parameters[name].ndim, parameters.get(f"{path}.weight" if path else "weight")
    is_bias, several = "bias" in key, dims > 1
    of_norm = not several and (not is_bias or (weight is not None and weight.ndim < 2))
    return (is_bias, of_norm, dims), (is_bias, of_norm, several), (is_bias, several), (several,)


def _nearest(names: Iterable[str], place: Mapping[str, int], here: int) -> str:
    return min(names, key=lambda name: abs(place[name] - here))
