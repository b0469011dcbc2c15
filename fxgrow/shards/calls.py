"""What `grow` and `apply` do with a sharded model, on every process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ..capture.traced import Traced
from ..model.example_inputs import ExampleInputs
from ..model.sharded import whole
from ..plans.growth_plan import Plan
from ..rewrite.apply_plans import apply_one, apply_plans
from ..rewrite.student import call_resize, student_of
from ..state.hand_over import hand_over
from ..state.optimizer import moving
from .agreement import agreed, digest_of, groups_of
from .growth import check_units, mesh_of, sharded_student
from .moments import ShardMoments
from .options import Options


def grow_sharded(model: nn.Module, propose: Callable[[], tuple[Traced, Plan]], options: Options) -> nn.Module:
    """The student of a sharded model, and its optimizer moved on.

    Args:
        model: The teacher.
        propose: Makes the plan, without a word to other processes.
        options: Those of `grow`.

    Raises:
        GrowError: With the reason, on every process; nothing was changed.
    """

    def prepared() -> tuple[Plan, nn.Module, Any, Any]:
        options.check_by_parts()
        moved = moving(options.optimizer, model, reset=options.reset)
        traced, plan = propose()
        units = check_units(model, plan)
        return plan, student_of(traced, plan, whole(model)), units, moved

    plan, student, units, moved = agreed(groups_of(mesh_of(model)), prepared, lambda made: digest_of(made[0]))
    sharded_student(plan, model, units, student)
    call_resize(options.resize, student, plan)
    hand_over(moved, plan, model, student, 0, ShardMoments)
    return student


def apply_sharded(chain: Plan, model: nn.Module, example: ExampleInputs | None, options: Options) -> nn.Module:
    """The student that a chain of plans makes of a sharded model; errors as for `grow_sharded`."""
    groups = groups_of(mesh_of(model))

    def one(plan: Plan, teacher: nn.Module, example: ExampleInputs | None, calibration: object) -> nn.Module:
        def prepared() -> tuple[nn.Module, Any]:
            units = check_units(teacher, plan)
            return apply_one(plan, whole(teacher), example, None), units

        student, units = agreed(groups, prepared, lambda made: digest_of(plan))
        return sharded_student(plan, teacher, units, student)

    def checked() -> Any:
        options.check_by_parts()
        return moving(options.optimizer, model, reset=options.reset)

    moved = agreed(groups, checked)
    student = apply_plans(chain, model, example, one=one)
    call_resize(options.resize, student, chain)
    hand_over(moved, chain, model, student, 0, ShardMoments)
    return student
