"""Which widths are to blame where code refuses the student's sizes and no call says which sizes meet there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from ..errors import PlanError
from ..infer.width_graph import WidthGraph
from ..plans.growth_plan import Plan
from ..solver.plan_widths import plan_widths
from ..spec.parse import Widen
from ..spec.patterns import EVERYTHING
from .verdict import Mismatch, Verdict

Unit = frozenset[str]
"""Widths that grow by one factor."""


def narrowed(
    mismatch: Mismatch, proposal: Plan, repaired: WidthGraph, check: Callable[[Plan], Verdict]
) -> Mismatch | None:
    """The mismatch, with those widths alone whose growth leads to it.

    Students in which only some widths grow are checked, by halves: of those that are named; or, if these have nothing
    to do with it, of all that grow. Where it takes several together, those stay named.

    Args:
        mismatch: Of which no call says which widths meet there.
        proposal: The plan in whose student it is.
        repaired: The widths that the plan was made for.
        check: The check of a plan for these widths.

    Returns:
        None where the growth of all of them does not lead to it: another repair has mended it.
    """
    factors = {width.name: width.new / width.old for width in proposal.grown_widths}

    def fails(some: Iterable[Unit]) -> bool:
        names: frozenset[str] = frozenset().union(*some)
        others = repaired.pin(repaired.groups_by_name.keys() - names, "it is not tried")
        factor = max(factors[name] for name in names & factors.keys())
        try:
            found = check(plan_widths(others, [Widen(EVERYTHING, factor)])).mismatches
        except PlanError:  # nothing is known of them
            return True
        return any(other.guessed and other.site == mismatch.site for other in found)

    named, growing = (_units(names, repaired) for names in (mismatch.groups, factors))
    for candidates in (named, growing):
        if fails(candidates):
            names = [name for unit in guilty(candidates, fails) for name in factors if name in unit]
            return replace(mismatch, groups=tuple(names))
    return None


def guilty(units: Sequence[Unit], fails: Callable[[Sequence[Unit]], bool]) -> Sequence[Unit]:
    """Those of some units that fail by themselves; or else some that fail together and of which none can be left out.

    Args:
        units: They fail together.
        fails: Whether some of them fail together.
    """
    if len(units) < 2:
        return units
    half = len(units) // 2
    found = [unit for part in (units[:half], units[half:]) if fails(part) for unit in guilty(part, fails)]
    return found or _together((), units, fails)


def _together(before: Sequence[Unit], units: Sequence[Unit], fails: Callable[[Sequence[Unit]], bool]) -> Sequence[Unit]:
    """As few of some units as it takes to fail together with those before (QuickXplain, Junker 2004)."""
    if before and fails(before):
        return ()
    if len(units) < 2:
        return units
    half = len(units) // 2
    second = _together((*before, *units[:half]), units[half:], fails)
    return (*_together((*before, *second), units[:half], fails), *second)


def _units(names: Iterable[str], widths: WidthGraph) -> list[Unit]:
    tied = (frozenset(widths.groups_by_name[name].ratio) | {name} for name in names)
    return list(dict.fromkeys(tied))
