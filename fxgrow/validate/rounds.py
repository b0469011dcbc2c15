"""The rounds that meet a number of parameters or FLOPs: solve for widths, plan, compare what the plan costs, correct.

The solver knows what widths cost. What new layers, clones and larger kernels cost follows from the plan that is made
with its widths, so the goal for the widths is corrected by the ratio until the whole meets the budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..costs.terms import Terms, flop_terms, parameter_terms
from ..errors import PlanError
from ..infer.width_graph import WidthGraph
from ..plans.growth_plan import Plan
from ..solver.budget import solve
from ..solver.io_growth import IoGrowth
from ..solver.search import WITHIN
from ..spec.budget import Budget
from ..spec.parse import Widen
from ..spec.requests import Request
from .bounds import Bounds
from .refine import plan_until_valid

ROUNDS = 10  # of corrected goals
FEW = 3  # where the nearest will do


class Rounds:
    """The rounds for one budget.

    Args:
        widths: As for `plan_until_valid`.
        requests: As for `plan_until_valid`, with the budget.
        budget: One that is not solved.
        seed: As for `plan_until_valid`.
        method: As for `plan_until_valid`.
    """

    def __init__(
        self, widths: WidthGraph, requests: Sequence[Widen | Request], budget: Budget, seed: int, method: str
    ) -> None:
        self._widths, self._requests, self._budget = widths, requests, budget
        self._seed, self._method = seed, method
        self._terms: tuple[object, Terms] | None = None  # with the layouts that they were made of
        self.before = self._terms_of(widths).total(widths.width)
        self._grown: Mapping[str, int] | None = None  # the widths of the last round
        self._nearest = False  # whether it may be further away than 1 %
        self._goal = 0  # what the whole is to cost
        self._aim = 0  # what the widths alone are to cost, in this round

    def plan(self, goal: int) -> Plan:
        """The plan that meets the budget, with a note on that.

        Args:
            goal: How many parameters, or else FLOPs, the student is to have.

        Raises:
            PlanError: None comes within 1 %.
        """
        best = self._met(goal, nearest=False)
        note = f"{self._budget!r}: {self._in_words(self.cost(best))}; {factors(best)}"
        return replace(best, notes=(*best.notes, note))

    def nearest(self, goal: int) -> Plan:
        """The plan that comes nearest, where none comes within 1 %, without a note on that."""
        return self._met(goal, nearest=True)

    def _met(self, goal: int, *, nearest: bool) -> Plan:
        self._goal, self._aim, self._nearest = goal, goal, nearest
        made = best = self._planned()
        bounds = Bounds(self.before)
        while self._away(self.cost(best)) > WITHIN and len(bounds.tried) < (FEW if nearest else ROUNDS):
            aim = bounds.next(self._aim, self.cost(made), goal)
            if aim in bounds.tried:
                break
            self._aim = aim
            made = self._planned()
            best = min(best, made, key=lambda plan: self._away(self.cost(plan)))
        cost = self.cost(best)
        if self._away(cost) > WITHIN and not nearest:
            raise PlanError(self._unmet(cost, None))
        return best

    def least(self) -> Plan:
        """The plan of the other requests alone."""
        least = self._budget.solved({})
        requests = [least if request is self._budget else request for request in self._requests]
        return plan_until_valid(self._widths, requests, seed=self._seed, method=self._method)

    def _planned(self) -> Plan:
        return plan_until_valid(self._widths, self._requests, seed=self._seed, method=self._method, sized=self._sized)

    def _sized(self, widths: WidthGraph, io_growths: Sequence[IoGrowth]) -> Sequence[Widen | Request]:
        """The requests with the widths that meet the budget under the constraints of a round."""
        others = [request for request in self._requests if request is not self._budget]
        terms = self._terms_of(widths)
        found = solve(widths, others, self._budget, self._aim, terms, method=self._method, io_growths=io_growths)
        alone = not self._nearest and not any(isinstance(one, Request) and one.structural for one in others)
        self._grown = found.budget.widths
        if (alone and self._away(found.cost) > WITHIN) or found.is_limit:
            raise PlanError(self._unmet(found.cost, found.above))
        return [found.budget if request is self._budget else request for request in self._requests]

    def _terms_of(self, widths: WidthGraph) -> Terms:
        """The cost as a function of widths; the graphs of several rounds share layouts, and so these."""
        if self._terms is None or self._terms[0] is not widths.tensors:
            make = parameter_terms if self._budget.what == "parameters" else flop_terms
            self._terms = (widths.tensors, make(widths))
        return self._terms[1]

    def cost(self, plan: Plan) -> int:
        """What the student of a plan costs, by what the budget bounds."""
        amount = plan.parameters if self._budget.what == "parameters" else plan.flops
        if amount is None:
            raise PlanError(f"{self._budget!r}: the FLOPs of {plan.model} are not known")
        return amount.after

    def _away(self, cost: int) -> float:
        """The distance from the goal, as a part of that."""
        return abs(cost - self._goal) / self._goal

    def _in_words(self, cost: int) -> str:
        what = f"{cost:,} {'parameters' if self._budget.what == 'parameters' else 'FLOPs'}"
        side = "below" if cost < self._goal else "above"
        return what if cost == self._goal else f"{what}, {100 * self._away(cost):.2g} % {side} {self._goal:,}"

    def _unmet(self, cost: int, above: int | None) -> str:
        said = f"{self._budget!r} cannot be met within 1 %"
        if cost > self._goal and not self._grown:
            return f"{said}: the other requests alone take {self._in_words(cost)}; ask for more"
        if above is None:
            return f"{said}: the nearest that was found is {self._in_words(cost)}"
        return f"{said}: the next below is {self._in_words(cost)}, and the next above {above:,}; ask for one of these"


def factors(plan: Plan) -> str:
    """By how much the widths of a plan grow."""
    factors = sorted(width.new / width.old for width in plan.grown_widths)
    if not factors:
        return "no width grows"
    low, high = f"{factors[0]:.3g}", f"{factors[-1]:.3g}"
    return f"widths grow by a factor of {low}" + (f" to {high}" if low != high else "")
