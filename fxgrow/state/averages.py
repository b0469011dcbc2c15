"""A running average of a model: a wrapper that holds a copy of it as `module`, and goes on with a student of that copy.

`torch.optim.swa_utils.AveragedModel` and timm's `ModelEmaV3` are such wrappers, and classes of the user's own that add
nothing but counters and a rule. What wraps a model for other reasons has ties to its parameters, and is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import nn

from ..errors import PlanError
from ..model.copies import named_tensors
from ..model.supported import check_supported
from ..model.walk import named_modules
from ..plans.growth_plan import Plan

INNER = "module"


def apply_inside(plan: Plan, model: nn.Module, make: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """The student of a model; of an average of one the same average, around the student of its copy.

    Args:
        plan: The plan, or the first one of a chain.
        model: The model, or the average.
        make: Makes the student of a model.

    Raises:
        PlanError: A wrapper of another kind is around the model.
    """
    check_supported(model)
    inner = model._modules.get(INNER)
    if type(model).__name__ == "DataParallel":
        raise PlanError(f"{type(model).__name__} is tied to the model that it wraps: give model.{INNER}, and wrap anew")
    if inner is None or not _is_average(plan, model, inner):
        return make(model)
    student = make(inner)
    average = copy.copy(model)
    vars(average).update({key: copy.copy(value) for key, value in vars(model).items() if isinstance(value, dict)})
    average._modules[INNER] = student
    average._buffers.update({n: None if b is None else b.clone() for n, b in model._buffers.items()})
    return average


def _is_average(plan: Plan, model: nn.Module, inner: nn.Module) -> bool:
    """Whether the plan is for what a wrapper holds, and not for the wrapper, which adds no parameters."""
    named = _named_by(plan)
    alone = not model._parameters and list(model._modules) == [INNER]
    return alone and bool(named) and named <= _names(inner) and not named <= _names(model)


def _named_by(plan: Plan) -> set[str]:
    """The tensors that a plan changes, and the layers and blocks of the teacher that it follows, clones or enlarges."""
    made = {path for change in plan.changes for path in change.new_paths}
    paths = {path for change in plan.changes for path in (change.follows, *change.kernels)}
    return {tensor.name for tensor in plan.tensors} | (paths - made - {""})


def _names(model: nn.Module) -> set[str]:
    return named_tensors(model).keys() | {path for path, _ in named_modules(model)}
