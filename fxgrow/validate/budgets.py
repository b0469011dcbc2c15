"""A plan that meets a budget, whichever it bounds."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import PlanError
from ..infer.width_graph import WidthGraph
from ..plans.growth_plan import Plan
from ..spec.budget import Budget
from ..spec.parse import Widen
from ..spec.requests import Request
from .latency import plan_to_latency
from .refine import plan_until_valid
from .rounds import Rounds


def plan_to_budget(widths: WidthGraph, requests: Sequence[Widen | Request], *, seed: int, method: str) -> Plan:
    """A plan for requests of every kind, of which one may be a budget.

    Args:
        widths: As for `plan_until_valid`.
        requests: As for `plan_until_valid`.
        seed: As for `plan_until_valid`.
        method: As for `plan_until_valid`.

    Raises:
        PlanError: A request cannot be met; also where no widths come within 1 % of the budget.
    """
    budgets = [request for request in requests if isinstance(request, Budget) and request.widths is None]
    if not budgets:
        return plan_until_valid(widths, requests, seed=seed, method=method)
    if len(budgets) > 1:
        raise PlanError(f"one budget at a time, not {' and '.join(map(repr, budgets))}; give the tighter one")
    rounds = Rounds(widths, requests, budgets[0], seed, method)
    if budgets[0].what != "latency":
        return rounds.plan(int(budgets[0].goal(rounds.before)))
    return plan_to_latency(widths.traced, budgets[0], rounds)
