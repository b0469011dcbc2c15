"""The widths that a solved budget states, as far as a width graph lets them grow."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import PlanError
from ..infer.groups import can_grow
from ..infer.width_graph import WidthGraph
from ..spec.budget import Budget
from ..spec.parse import MOST_CHANNELS, Widen


def solved_widths(widths: WidthGraph, budgets: Sequence[Budget]) -> dict[str, tuple[int, Widen]]:
    """By the name of a group its width, and a request that means the same.

    Raises:
        PlanError: A budget is solved for another model.
    """
    found: dict[str, tuple[int, Widen]] = {}
    for budget in budgets:
        request = as_widen(budget)
        for name, width in (budget.widths or {}).items():
            group = widths.groups_by_name.get(name)
            if group is None or not group.size <= width < MOST_CHANNELS:
                raise PlanError(f"{budget!r}: its widths are those of another model: {name!r:.80} of {width}")
            if can_grow(group):
                found[name] = (width, request)
    return found


def as_widen(budget: Budget) -> Widen:
    """A request for the widths that a budget means, which does not say how wide they become."""
    return Widen(budget.pattern, 2.0, multiple_of=budget.multiple_of, method=budget.method, exclude=budget.exclude)
