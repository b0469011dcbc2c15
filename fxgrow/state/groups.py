"""In which group of which optimizer each parameter of the student is.

An old one is where the teacher's was. A new layer joins the group of the layer that it follows, a clone that of its
block. Groups often part weights from biases and gains (weight decay), so a parameter with no counterpart there joins
the group of the nearest parameter with as many dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from ..plans.changes import Insert, Repeat, StructuralChange

GroupNumber = tuple[int, int]  # (which optimizer, which of its groups)


def groups_of_new(
    trained: Mapping[str, GroupNumber], parameters: Mapping[str, Tensor], changes: Sequence[StructuralChange]
) -> dict[str, GroupNumber]:
    """The groups of the parameters that only the student has.

    Args:
        trained: The groups of the teacher's parameters, by name.
        parameters: The student's, in their order.
        changes: What was added, in the order in which it was.
    """
    known = dict(trained)
    place = {name: number for number, name in enumerate(parameters)}
    new = [name for name in parameters if name not in trained]
    for change in changes:
        for path in change.new_paths:
            for name in [name for name in new if name.startswith(f"{path}.")]:
                group = _group(name, path, change, known, parameters, place)
                if group is not None:
                    known[name] = group
    return {name: known[name] for name in new if name in known}


def _group(
    name: str,
    path: str,
    change: StructuralChange,
    known: Mapping[str, GroupNumber],
    parameters: Mapping[str, Tensor],
    place: Mapping[str, int],
) -> GroupNumber | None:
    dims = parameters[name].ndim
    source = change.after if isinstance(change, Insert) else change.original
    if isinstance(change, Repeat) and (twin := f"{source}{name.removeprefix(path)}") in known:
        return known[twin]
    others = [other for other in known if other in parameters]
    alike = [other for other in others if parameters[other].ndim == dims]
    similar = [other for other in others if (parameters[other].ndim > 1) == (dims > 1)]
    inside = [other for other in alike if other.startswith(f"{source}.")]
    nearest = _nearest(inside or alike or similar or others, place, place[name])
    return None if nearest is None else known[nearest]


def _nearest(names: Iterable[str], place: Mapping[str, int], here: int) -> str | None:
    return min(names, key=lambda name: abs(place[name] - here), default=None)
