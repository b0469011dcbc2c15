"""A budget to widths: one factor for all, or those that are worth most, as near to the budget as whole channels get.

In: a width graph, requests, the number to reach. Out: the budget with its widths. Costs are sums of terms over layouts
(`costs.terms`), so that hundreds of sizes are tried without a student.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..costs.terms import Terms
from ..errors import PlanError, WidthError
from ..infer.width_graph import WidthGraph
from ..spec.budget import Budget
from ..spec.parse import MOST_CHANNELS, Widen
from ..spec.requests import Request
from .by_score import grow_by_score
from .io_growth import IoGrowth
from .ladders import Unit, units
from .lattice import neighbours
from .plan_widths import targets_of
from .search import Search
from .solved import as_widen

STEPS = 24  # of a bisection


@dataclass(frozen=True, slots=True)
class Solution:
    """A budget and how near it was met.

    Attributes:
        budget: With its widths.
        cost: What these widths cost, by what the budget bounds, without new layers.
        above: What the next larger ones cost; None where that is not known.
        is_limit: Whether widths have to be larger than any may be.
    """

    budget: Budget
    cost: int
    above: int | None
    is_limit: bool


def solve(
    widths: WidthGraph,
    requests: Sequence[Widen | Request],
    budget: Budget,
    goal: int,
    terms: Terms,
    *,
    method: str,
    io_growths: Sequence[IoGrowth] = (),
) -> Solution:
    """The widths that meet a budget.

    Args:
        widths: The width graph, with all constraints that are known.
        requests: The other requests.
        budget: One that is not solved.
        goal: The cost to reach.
        terms: The cost as a function of widths.
        method: As for `plan_widths`.
        io_growths: As for `plan_widths`.

    Raises:
        PlanError: No width that it means can grow, or the cost does not depend on those that can.
    """
    others = targets_of(widths, [r for r in requests if isinstance(r, Widen)], method, io_growths)
    asked = targets_of(widths, [as_widen(budget)], method, io_growths)
    free = [n for n, new in asked.new.items() if new > widths.width(n) and n not in others.new]
    scores = None if budget.scores is None else {widths.named(name): score for name, score in budget.scores.items()}
    _check_scores(widths, budget, scores, free)
    search = Search(terms, {name: others.new.get(name, widths.width(name)) for name in widths.groups_by_name}, goal)
    together = units(widths, as_widen(budget), free)
    if search.total >= goal or search.is_near():
        pass
    elif not any(map(search.matters, together)):
        raise PlanError(_nothing(budget, free, others.new, asked.skipped))
    elif scores is None:
        _grow_uniformly(search, together)
    else:
        grow_by_score(search, together, scores)
    above = _nearest(search, together, widths)
    new = {name: search.sizes[name] for name in free if search.sizes[name] > widths.width(name)}
    return Solution(budget.solved(new), search.total, above, above is None and search.is_far)


def _check_scores(widths: WidthGraph, budget: Budget, scores: Mapping[str, float] | None, free: Sequence[str]) -> None:
    if scores is None:
        return
    for name in scores:
        try:
            widths.width(name)
        except WidthError as error:
            shown = ", ".join(group.name for group in widths.groups[:8])
            raise PlanError(f"{budget!r}: scores are by the names of widths, such as {shown}: {error}") from None
    if not any(scores.get(name) for name in free):
        raise PlanError(f"{budget!r}: no width with a score above 0 can grow; those that can: {', '.join(free[:8])}")


def _nothing(budget: Budget, free: Sequence[str], taken: Mapping[str, int], skipped: Mapping[str, str]) -> str:
    if free:
        return f"{budget!r}: {budget.what} do not depend on the widths that can grow: {', '.join(free[:8])}"
    if taken:
        return f"{budget!r}: the other requests say how wide everything is that it means"
    reasons = "; ".join(f"{name}: {why}" for name, why in [*skipped.items()][:4])
    return f"{budget!r}: no width is left that can grow{f': {reasons}' if reasons else ''}"


def _nearest(search: Search, together: Sequence[Unit], widths: WidthGraph) -> int | None:
    """Where the goal is far, take what is near enough, if there is; else the next cost above, if that is known."""
    if not search.is_far:
        return None
    old = {name: widths.width(name) for unit in together for name in unit.ladders}
    found = neighbours(search, together, old)
    if found is None:
        return search.above(together)
    search.take((found.near or found.below).sizes)
    return None if found.near is not None or found.above is None else found.above.cost


def _grow_uniformly(search: Search, together: Sequence[Unit]) -> None:
    """Grow all by one factor, the largest that fits; then, by a larger one, those that still fit."""
    active = list(together)
    factor = 1.0
    while active and not search.is_near():
        factor = _largest_factor(search, active, factor)
        search.take(_at(search, active, factor))
        stuck = []
        for unit in sorted(active, key=lambda one: one.next_factor(search.sizes)):
            if search.is_near():
                return
            if not search.try_(unit.at(unit.next_factor(search.sizes))):
                stuck.append(unit)
        active = [unit for unit in active if unit not in stuck]


def _largest_factor(search: Search, active: Sequence[Unit], low: float) -> float:
    """The largest factor from `low` on that fits, to a small part of a channel."""

    def fits(factor: float) -> bool:
        sizes = _at(search, active, factor)
        return max(sizes.values()) < MOST_CHANNELS and search.cost(sizes) <= search.goal

    high = low
    while fits(high):
        low, high = high, high * 2
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _at(search: Search, active: Sequence[Unit], factor: float) -> dict[str, int]:
    return {n: max(size, search.sizes[n]) for unit in active for n, size in unit.at(factor).items()}
