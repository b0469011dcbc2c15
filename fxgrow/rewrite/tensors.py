"""The student's parameters and buffers: made from the teacher's."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from ..base.progress import advance, step
from ..errors import PlanError
from ..model.copies import named_tensors
from ..plans.entries import TensorPlan
from ..plans.growth_plan import Plan
from .fill import Filling, size

Make = Callable[[str, Tensor], Tensor]  # (name, the teacher's tensor) -> the student's, as plain data


def grown_tensors(plan: Plan, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The student's parameters and buffers, from the teacher's.

    Raises:
        PlanError: A tensor that the plan names is missing or has another shape.
    """
    check_tensors(plan, tensors)
    planned = {t.name: t for t in plan.tensors}
    fill = Filling(plan)
    grown: dict[str, Tensor] = {}
    with step("filling", sum(map(size, tensors.values()))):
        for name, tensor in tensors.items():
            data = fill(planned[name], tensor) if name in planned else _copied(tensor)
            grown[name] = nn.Parameter(data, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data
            grown[name].__dict__.update(tensor.__dict__)  # marks that users put on parameters
    return grown


def _copied(tensor: Tensor) -> Tensor:
    advance(size(tensor))
    return tensor.detach().clone()


def replacements(plan: Plan, root: nn.Module) -> dict[int, Tensor]:
    """The student's tensors by the `id` of the teacher's, in whose places a copy of the tree is to have them."""
    tensors = named_tensors(root)
    grown = grown_tensors(plan, tensors)
    return {id(tensor): grown[name] for name, tensor in tensors.items()}


def check_tensors(plan: Plan, tensors: Mapping[str, Tensor]) -> None:
    """Whether a model has the parameters that a plan was made for.

    Raises:
        PlanError: One is missing, or has another shape.
    """
    missing = sorted({t.name for t in plan.tensors} - set(tensors))
    if missing:
        raise PlanError(f"the plan was made for {plan.model}, whose {missing[0]!r} this model does not have")
    for planned in plan.tensors:
        _check_shape(plan, planned, tensors[planned.name])


def _check_shape(plan: Plan, planned: TensorPlan, tensor: Tensor) -> None:
    from_plan = tuple(plan.old_size(layout) for layout in planned.layouts)
    if from_plan != tuple(tensor.shape):
        raise PlanError(
            f"the plan expects {planned.name!r} of shape {from_plan}, but it is {tuple(tensor.shape)}; "
            "plan again for this model"
        )
