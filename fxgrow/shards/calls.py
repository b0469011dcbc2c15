"""What `grow` and `apply` do with a sharded model, on every process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn

from ..capture.traced import Traced
from ..model.example_inputs import ExampleInputs
from ..model.partition import give_back
from ..model.sharded import whole
from ..plans.chain import chained
from ..plans.growth_plan import Plan
from ..rewrite.apply_plans import apply_one, apply_plans
from ..rewrite.student import call_resize, check_calibration, student_of
from ..state.hand_over import hand_over
from ..state.optimizer import Moving, moving
from .agreement import OPTIMIZERS, Peers, agreed, digest_of, digest_of_states, peers_of
from .batches import calibrate_by_parts
from .growth import check_units, mesh_of, sharded_student
from .moments import ShardMoments
from .options import Options
from .units import Unit


def grow_sharded(model: nn.Module, propose: Callable[[], tuple[Traced, Plan]], options: Options) -> nn.Module:
    """The student of a sharded model, and its optimizer moved on.

    Args:
        model: The teacher.
        propose: Makes the plan, without a word to other processes.
        options: Those of `grow`.

    Raises:
        GrowError: With the reason, on every process; nothing was changed.
    """
    peers = peers_of(*mesh_of(model))

    def prepared() -> tuple[Plan, nn.Module, list[Unit]]:
        traced, plan = propose()
        check_calibration(plan, options.calibration)
        units = check_units(model, plan)
        return plan, student_of(traced, plan, whole(model)), units

    moved = _optimizers(model, options, peers)
    plan, student, units = agreed(peers, prepared, lambda made: digest_of(made[0]))
    sharded_student(plan, model, units, student, release=options.release)
    calibrate_by_parts(student, plan, options.calibration, peers)
    return _handed_over(plan, model, student, moved, options, peers)


def apply_sharded(
    plans: Plan | Sequence[Plan], model: nn.Module, example: ExampleInputs | None, options: Options
) -> nn.Module:
    """The student that a plan, or a chain of plans, makes of a sharded model; errors as for `grow_sharded`."""
    peers = peers_of(*mesh_of(model))

    def one(plan: Plan, teacher: nn.Module, example: ExampleInputs | None, batches: Iterable[Any] | None) -> nn.Module:
        def prepared() -> tuple[nn.Module, list[Unit]]:
            units = check_units(teacher, plan)
            return apply_one(plan, whole(teacher), example, None), units

        student, units = agreed(peers, prepared)
        release = options.release or teacher is not model  # those between are nobody's
        student = sharded_student(plan, teacher, units, student, release=release)
        calibrate_by_parts(student, plan, batches, peers)
        return student

    moved = _optimizers(model, options, peers)
    chain = agreed(peers, lambda: chained(plans), digest_of)
    student = apply_plans(chain, model, example, options.calibration, one)
    return _handed_over(chain, model, student, moved, options, peers)


def _optimizers(model: nn.Module, options: Options, peers: Peers) -> list[Moving]:
    """The optimizers, whose states all processes send in the same order, or none does."""

    def checked() -> list[Moving]:
        options.steps()
        return moving(options.optimizer, model, reset=options.reset)

    return agreed(peers, checked, lambda moved: digest_of_states(moved, options.steps()), OPTIMIZERS)


def _handed_over(
    plan: Plan, model: nn.Module, student: nn.Module, moved: list[Moving], options: Options, peers: Peers
) -> nn.Module:
    """The student, once the user's code has seen it on all processes and the optimizers train it."""
    agreed(peers, lambda: call_resize(options.resize, student, plan))
    hand_over(moved, plan, model, student, options.steps(), ShardMoments, give_back if options.release else None)
    return student
