"""A warm-up of new entries alone: for some steps after a growth they move by a growing part of the optimizer's steps.

New entries have no first moment and a second one that is only a mean, so their first steps are rough. In step t of n,

    p <- p_before + (t / n) * (p_after - p_before)      for new entries,

and nothing changes for the others, whose rate is not lowered. Replicas are no new entries: their moments are right.

Source: a re-warm-up after growth, for all parameters, is in staged training (Shen et al., arXiv 2203.06211).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..base.scalars import as_int
from ..errors import GrowError
from ..model.copies import named_parameters
from ..model.partition import local_part, partition_of
from ..model.sharded import is_dtensor
from ..model.supported import HARMLESS
from ..plans.growth_plan import Plan
from .moments import Moment, MomentFilling
from .optimizer import FillingOf, Moving, grown_by, unwrapped
from .rules import Rule

NEW = "new"
_RULE = Rule({NEW: Moment(0, "one")})
_ATTRIBUTE = "_fxgrow_warmup"  # of an optimizer


def warm_up(
    moved: Sequence[Moving],
    plan: Plan,
    teacher: nn.Module,
    student: nn.Module,
    steps: int,
    filling: FillingOf = MomentFilling,
) -> None:
    """Begin a warm-up of a student's new entries in its optimizers, and end one of an earlier growth of this model.

    Args:
        moved: The optimizers, which train the student by now.
        plan: The plan, or the chain of plans, that made the student.
        teacher: The teacher.
        student: The student.
        steps: How many steps it takes; 0 for none.
        filling: What grows the tensors of a state by one plan.
    """
    new = new_entries(plan, teacher, student, filling) if steps and moved else {}
    replaced = {id(parameter) for parameter in named_parameters(teacher).values()}
    for one in moved:
        earlier = vars(one.keeper).get(_ATTRIBUTE)
        if isinstance(earlier, Warmup):
            earlier.leave(replaced)
        if steps:
            begin(one.keeper, new, student, steps)


def begin(optimizer: Optimizer, new: Mapping[str, Tensor], student: nn.Module, steps: int, done: int = 0) -> None:
    """Begin a warm-up, or go on with one."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    parameters = named_parameters(student)
    masks = [(parameters[name], mask) for name, mask in new.items() if id(parameters[name]) in held]
    vars(optimizer)[_ATTRIBUTE] = Warmup(optimizer, masks, steps, done)


def checked_steps(warmup: object) -> int:
    """How many steps a warm-up takes, as a user gives it.

    Raises:
        GrowError: It is no number of steps.
    """
    steps = as_int(warmup)
    if steps is None or steps < 0:
        raise GrowError(f"warmup is a number of steps, 0 or more, not {warmup!r:.60}")
    return steps


def new_entries(plan: Plan, teacher: nn.Module, student: nn.Module, filling: FillingOf) -> dict[str, Tensor]:
    """Which entries of a student's parameters have no past, bool, by name; parameters without any are left out.

    Of a parameter that is divided among processes, the mask is divided in the same way.

    Args:
        plan: The plan, or the chain of plans, that made the student.
        teacher: The teacher.
        student: The student.
        filling: What grows the tensors of a state by one plan.
    """
    states = {name: {NEW: _old(parameter)} for name, parameter in named_parameters(teacher).items()}
    for single in plan.steps:
        states = grown_by(single, states, _RULE, filling)
    masks: dict[str, Tensor] = {}
    for name, parameter in named_parameters(student).items():
        mask = states[name][NEW].bool() if name in states else torch.ones_like(parameter, dtype=torch.bool)
        if _any(mask):
            masks[name] = mask.to(parameter.device)
    return masks


def _old(parameter: Tensor) -> Tensor:
    """A mask, uint8, of no entry; of a whole parameter on the CPU."""
    if is_dtensor(parameter):
        return torch.zeros_like(parameter, dtype=torch.uint8, requires_grad=False)
    return torch.zeros(parameter.shape, dtype=torch.uint8)


def _any(mask: Tensor) -> bool:
    """Whether an entry of a mask is true, here or on another process."""
    found = own_part(mask).any().to(torch.int32)
    return bool(partition_of(mask, "a mask").reduce(found, "max") if is_dtensor(mask) else found)


def own_part(tensor: Tensor) -> Tensor:
    """A tensor without a history, or this process's part of it."""
    return local_part(tensor) if is_dtensor(tensor) else tensor.detach()


class Warmup:
    """The warm-up of one optimizer: two hooks around its steps, which do nothing once it is over.

    Attributes:
        steps: How many steps it takes.
        done: How many were taken.
    """

    def __init__(self, optimizer: Optimizer, masks: Sequence[tuple[Tensor, Tensor]], steps: int, done: int = 0) -> None:
        """Begin.

        Args:
            optimizer: The optimizer.
            masks: Parameters, and which of their entries are new.
            steps: How many steps it takes.
            done: How many were taken before.
        """
        vars(self)[HARMLESS] = True
        self.steps, self.done = steps, done
        self._masks = list(masks)
        self._before: list[Tensor] = []
        self._handles = [
            optimizer.register_step_pre_hook(self._keep),
            optimizer.register_step_post_hook(self._shorten),
        ]

    @property
    def over(self) -> bool:
        """Whether all its steps were taken."""
        return self.done >= self.steps

    def state(self, names: Mapping[int, str]) -> dict[str, Any]:
        """What a file keeps of it.

        Args:
            names: Of parameters, by their `id`.
        """
        new = {names[id(parameter)]: mask for parameter, mask in self._masks if id(parameter) in names}
        return {"steps": self.steps, "done": self.done, "new": new}

    def leave(self, parameters: Container[int]) -> None:
        """Go on without these parameters, by `id`; where none is left, take the hooks away.

        Not to be called from one of the hooks: they are being gone through.
        """
        self._masks = [(parameter, mask) for parameter, mask in self._masks if id(parameter) not in parameters]
        if self._masks:
            return
        for handle in self._handles:
            handle.remove()
        self._masks, self._before = [], []

    def _keep(self, *_: Any) -> None:
        self._before = [] if self.over else [own_part(parameter).clone() for parameter, _ in self._masks]

    def _shorten(self, *_: Any) -> None:
        if self.over:
            return
        self.done += 1
        part = self.done / self.steps
        with torch.no_grad():
            for (parameter, mask), before in zip(self._masks, self._before, strict=True):
                mine = own_part(parameter)
                new = own_part(mask).to(mine.device)  # the model may have moved since
                mine.copy_(torch.where(new, torch.lerp(before, mine, part), mine))
        self._before = []
        if self.over:
            self._masks = []


def warmup_of(optimizer: Optimizer) -> Warmup | None:
    """The warm-up that an optimizer is in; None where it is in none."""
    found = vars(optimizer).get(_ATTRIBUTE)
    return found if isinstance(found, Warmup) and not found.over else None


def warmup_state(optimizer: object, model: nn.Module) -> dict[str, Any] | None:
    """What is to be kept of the warm-up that an optimizer of a model is in; None where it is in none."""
    warmup = warmup_of(unwrapped(optimizer))
    return None if warmup is None else warmup.state({id(p): name for name, p in named_parameters(model).items()})


def resume_warmup(optimizer: object, model: nn.Module, state: object) -> None:
    """Go on with a warm-up of which `warmup_state` was kept, in another optimizer of such a model; None: there is none.

    Raises:
        GrowError: It is no such state, or that of another model.
    """
    if state is None:
        return
    if not is_state(state) or not state["new"].keys() <= named_parameters(model).keys():  # type: ignore[index]
        raise GrowError(f"this is no warm-up of the {type(model).__name__}: {state!r:.80}")
    begin(unwrapped(optimizer), state["new"], model, state["steps"], state["done"])  # type: ignore[index]


def is_state(data: object) -> bool:
    """Whether data is what `Warmup.state` gives."""
    if not isinstance(data, dict) or data.keys() != {"steps", "done", "new"} or not isinstance(data["new"], dict):
        return False
    numbers = all(type(data[key]) is int for key in ("steps", "done")) and 0 <= data["done"] < data["steps"]
    return numbers and all(isinstance(mask, Tensor) and mask.dtype == torch.bool for mask in data["new"].values())
