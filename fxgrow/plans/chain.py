"""Several plans as one."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from ..base.wording import a_type
from ..errors import PlanError
from .growth_plan import Plan


def chained(plans: Plan | Sequence[Plan]) -> Plan:
    """A plan, or several as one.

    Raises:
        PlanError: It is neither, or one contradicts itself (`Plan.check`).
    """
    given = plans if isinstance(plans, list | tuple) else [plans]
    only = [plan for plan in given if isinstance(plan, Plan)]
    if not given:
        raise PlanError("apply got an empty list of plans; expected one or more")
    if len(only) < len(given):
        wrong = next(plan for plan in given if not isinstance(plan, Plan))
        raise PlanError(f"apply takes a Plan (Plan.from_json reads one) or a list of plans, not {a_type(wrong)}")
    chain = functools.reduce(Plan.then, only)
    chain.check()
    return chain
