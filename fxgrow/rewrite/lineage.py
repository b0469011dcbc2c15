"""Which plans made a student, from its first teacher on, and which of them lie between a teacher and a student."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from torch import fx, nn

from ..base.wording import a_type
from ..errors import GrowError
from ..model.copies import shapes_of, stored
from ..model.walk import named_modules
from ..plans.growth_plan import Plan

Shapes = dict[str, tuple[int, ...]]

OWN_PLAN = "_fxgrow_plan"  # in the attributes of a student of the user's own class


def plan_of(student: nn.Module) -> Plan | None:
    """The plan that made a student; None where fxgrow did not make it.

    Args:
        student: A module. If its teacher was a student, too, the plan is a chain (`Plan.steps`): it makes the same
            architecture of the first teacher, however often the network was grown.

    Raises:
        GrowError: It is no module.
    """
    if not isinstance(student, nn.Module):
        raise GrowError(f"plan_of takes a student, not {a_type(student)}")
    plan = (
        student.meta.get("fxgrow")
        if isinstance(student, fx.GraphModule)
        else getattr(student, "__dict__", {}).get(OWN_PLAN)
    )
    return plan if isinstance(plan, Plan) else None


def remember(plan: Plan, student: nn.Module, teacher: nn.Module) -> None:
    """Note in a student which plan made it of a teacher, after those that made the teacher."""
    before = plan_of(teacher)
    made = before is not None and _made(before, teacher) and _kept(before, teacher)
    whole = before.then(plan) if before is not None and made else plan
    if isinstance(student, fx.GraphModule):
        student.meta["fxgrow"] = whole
    else:
        vars(student)[OWN_PLAN] = whole


def plan_between(teacher: nn.Module, student: nn.Module) -> Plan | None:
    """The plan, or the chain of plans, that makes a student of a teacher; None where fxgrow did not make it.

    A teacher that does not know its own plan, as after loading its weights into a new model, is told by its shapes.
    """
    whole, before = plan_of(student), plan_of(teacher)
    if whole is None:
        return None
    steps = whole.steps
    made = before.steps if before is not None else ()
    if made and len(made) < len(steps) and steps[: len(made)] == made:
        return functools.reduce(Plan.then, steps[len(made) :])
    return functools.reduce(Plan.then, steps[_first_of(steps, teacher) :])


def _first_of(steps: Sequence[Plan], teacher: nn.Module) -> int:
    """Which plan of a chain was made for a model with the shapes of the teacher's tensors; where none was, the first.

    A step that widens nothing names no tensors, but all that its teacher stores.
    """
    has, tensors = _stored(teacher), shapes_of(teacher)
    same = (n for n, step in enumerate(steps) if step.stored and _teachers(step) == has)
    fitting = (n for n, step in enumerate(steps) if step.tensors and _shapes(step, old=True).items() <= tensors.items())
    return next(same, next(fitting, 0))


def are_swapped(teacher: nn.Module, student: nn.Module) -> bool:
    """Whether the plan of what is given as the teacher makes it of what is given as the student."""
    whole = plan_of(teacher)
    if whole is None or plan_of(student) is not None:
        return False
    has = _stored(student)
    return has != _stored(teacher) and any(_teachers(step) == has for step in whole.steps)


def check_lineage(model: nn.Module) -> None:
    """Whether the plans of a model make it again from its first teacher.

    Raises:
        GrowError: It holds a student of fxgrow without being one, or was changed since it was grown.
    """
    plan = plan_of(model)
    if plan is not None:
        if not _made(plan, model):
            raise GrowError(
                "the student was changed by hand since it was grown, so its plans make another model; grow it once "
                "more, which begins a new chain, or keep its state_dict"
            )
        return
    for path, module in named_modules(model):
        if plan_of(module) is not None:
            raise GrowError(
                f"{type(model).__name__} was not grown itself but holds a student as {path!r}, and no plan makes it "
                "again from a new one; give that student"
            )


def _made(plan: Plan, model: nn.Module) -> bool:
    """Whether a model still has the shapes that its last plan gave it, and the modules that its plans put there."""
    tensors = shapes_of(model)
    last = plan.steps[-1]
    kernels = {f"{path}.weight" for change in last.changes for path in change.kernels}
    shapes = {last.numbering(name): shape for name, shape in _shapes(last).items() if name not in kernels}
    paths = {path for path, _ in named_modules(model, duplicates=True)}
    return shapes.items() <= tensors.items() and plan.new_modules.keys() <= paths


def _kept(plan: Plan, model: nn.Module) -> bool:
    """Whether what the last plan of a model leaves as it is still has its shape, and a larger kernel the new one.

    A plan that widens nothing says nothing else.
    """
    last = plan.steps[-1]
    changed = {one.name for one in last.tensors}
    shapes = {one.name: one.shape for one in last.stored if not {one.name, one.same_as} & changed}
    for change in last.changes:
        for path, (_, kernel) in change.kernels.items():
            if (name := f"{path}.weight") in shapes:
                shapes[name] = (*shapes[name][: -len(kernel)], *kernel)
    return {last.numbering(name): shape for name, shape in shapes.items()}.items() <= _stored(model).items()


def _stored(model: nn.Module) -> Shapes:
    return {name: shape for name, shape, *_ in stored(model)}


def _teachers(plan: Plan) -> Shapes:
    """The shapes that the teacher of a plan stores; empty in plans of versions before 1.3."""
    return {one.name: one.shape for one in plan.stored}


def _shapes(plan: Plan, *, old: bool = False) -> Shapes:
    size = plan.old_size if old else plan.new_size
    return {planned.name: tuple(map(size, planned.layouts)) for planned in plan.tensors}


def plan_left(whole: Plan, model: nn.Module) -> Plan | None:
    """What of a chain of plans a model has still to go through; None where it has been through all of them.

    Args:
        whole: From the first teacher on.
        model: The first teacher, or what some of the plans have made of it. One that does not know its own plan, or
            whose own is none of these, is told by the shapes of its tensors.

    Raises:
        GrowError: The model was grown further.
    """
    steps, known = whole.steps, plan_of(model)
    made = known.steps if known is not None else ()
    if made and steps == made[: len(steps)] and len(made) > len(steps):
        raise GrowError(
            f"the model was grown {len(made)} times, of which the plans know the first {len(steps)}; take a new model, "
            "or one that was grown less often"
        )
    if made and steps[: len(made)] == made:
        first = len(made)
    else:
        has = _stored(model)
        fitting = (n for n, step in enumerate(steps) if _teachers(step) == has)
        first = next(fitting, len(steps) if _made(whole, model) else 0)
    return functools.reduce(Plan.then, steps[first:]) if first < len(steps) else None
