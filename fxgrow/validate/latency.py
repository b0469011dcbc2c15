"""A plan whose student takes a given time, as the user's own function measures it.

The FLOPs of the student are the handle: plans are made for more and more exact numbers of FLOPs, and a student of each,
with random weights, is measured. Between two measurements the time is taken to be linear in FLOPs.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace

from ..base.isolation import users_device
from ..base.scalars import as_number
from ..capture.traced import Traced
from ..errors import PlanError, in_words
from ..plans.growth_plan import Plan
from ..rewrite.sample import sample_student
from ..solver.search import WITHIN
from ..spec.budget import Budget
from .bounds import Bounds
from .rounds import Rounds, factors

MEASUREMENTS = 10

log = logging.getLogger("fxgrow")


def plan_to_latency(traced: Traced, budget: Budget, rounds: Rounds) -> Plan:
    """The plan whose student takes the time of a budget within 1 %.

    Args:
        traced: The model.
        budget: It has a latency and says how to measure it.
        rounds: Plans for numbers of FLOPs.

    Raises:
        PlanError: The model takes longer already, no measurement comes within 1 %, or measuring fails.
    """
    goal = float(budget.goal(0))
    made = rounds.least()
    flops, taken = rounds.cost(made), _measured(traced, budget, made)
    if taken > goal * (1 + WITHIN):
        raise PlanError(f"{budget!r}: with no wider layers it takes {taken:.4g} already; fxgrow only grows")
    nearest = taken
    bounds = Bounds(flops)
    for _ in range(MEASUREMENTS):
        if abs(taken - goal) <= WITHIN * goal:
            return replace(made, notes=(*made.notes, f"{budget!r}: measured {taken:.4g}; {factors(made)}"))
        flops = bounds.next(flops, taken, goal)
        made = rounds.nearest(flops)
        taken = _measured(traced, budget, made)
        log.info("%r: %d FLOPs take %.4g", budget, flops, taken)
        nearest = min(nearest, taken, key=lambda time: abs(time - goal))
    raise PlanError(
        f"{budget!r}: of {MEASUREMENTS} students none takes that within 1 %; the nearest takes {nearest:.4g}. Where "
        "times vary from run to run, let measure return the median of many"
    )


def _measured(traced: Traced, budget: Budget, plan: Plan) -> float:
    """The time of a student, as the user's function says it.

    Raises:
        PlanError: The function fails, or gives no positive number.
    """
    student = sample_student(traced, plan)
    if budget.measure is None:
        raise PlanError(f"{budget!r}: there is no function that measures; give measure")
    try:
        with users_device():
            returned = budget.measure(student)
    except Exception as error:
        raise PlanError(f"{budget!r}: measure fails: {in_words(error)}") from error
    taken = as_number(returned)
    if taken is None or not 0 < taken < math.inf:
        raise PlanError(f"{budget!r}: measure is to return a positive number of seconds, and returned {returned!r:.80}")
    return float(taken)
