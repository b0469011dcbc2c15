"""The order of a student's parameters: optimizers of torch number parameters by it."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import GrowError
from ..plans.growth_plan import Plan
from .outline import Made


def parameter_order(chain: Plan, made: Mapping[str, Made]) -> list[str]:
    """The names of the student's parameters, each once, in the order of `named_parameters()`.

    Args:
        chain: The plans.
        made: What the student's checkpoint holds.

    Raises:
        GrowError: The last plan does not say: it was made before version 1.6 of the format, or for another model.
    """
    last = chain.steps[-1]
    names = list(last.order) or [one.name for one in last.stored if not one.buffer and not one.same_as]
    ties = {made[name].tie for name in names if name in made}
    known = {*names}
    left = [name for name, one in made.items() if not one.buffer and name not in known and one.tie not in ties - {""}]
    if left or any(name not in made or made[name].buffer for name in names):
        raise GrowError(
            "the plan does not say in which order its student has its parameters, by which torch's optimizers number "
            "them: plan again"
        )
    return names
