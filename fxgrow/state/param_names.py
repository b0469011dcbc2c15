"""The names that an optimizer keeps for its parameters, where it was made of named ones (torch 2.6).

They are those of the module that it was made for, which may hold the model that grows: what stands before the model's
own name stays. A name that the user chose stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

KEY = "param_names"


def renamed(
    groups: Sequence[Mapping[str, Any]],
    lists: Sequence[Sequence[Tensor]],
    before: Mapping[int, str],
    after: Mapping[int, str],
    parameters: Mapping[str, Tensor],
) -> list[list[str]]:
    """The names for the student's parameters, group by group; none for a group without names.

    Args:
        groups: The optimizer's groups, as they were for the teacher.
        lists: What each group is to train.
        before: By the `id` of the teacher's parameters their names in the teacher.
        after: By the same, their names in the student.
        parameters: The student's parameters.
    """
    given = {id(p): str(n) for group in groups for p, n in zip(group["params"], group.get(KEY, ()), strict=False)}
    prefixes = {at: prefix for at, name in given.items() if (prefix := _prefix(name, before.get(at, ""))) is not None}
    own = {id(p): name for name, p in parameters.items()}
    came_from = {id(parameters[name]): at for at, name in after.items()}
    common = next((prefix for prefix, _ in Counter(prefixes.values()).most_common(1)), "")

    def named(parameter: Tensor) -> str:
        if id(parameter) not in own:
            return given[id(parameter)]
        at = came_from.get(id(parameter))
        if at in given and at not in prefixes:
            return given[at]
        return (common if at is None else prefixes.get(at, common)) + own[id(parameter)]

    return [[named(p) for p in params] if KEY in group else [] for group, params in zip(groups, lists, strict=True)]


def _prefix(name: str, own: str) -> str | None:
    """What stands before a parameter's own name; None for another name."""
    prefix = name.removesuffix(own) if own and name.endswith(own) else None
    return prefix if prefix is None or not prefix or prefix.endswith(".") else None
