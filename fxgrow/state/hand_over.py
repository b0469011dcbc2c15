"""Optimizers go over to the student all together or not at all, whatever ends a growth between two of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.optim import Optimizer

from ..model.walk import named_modules
from ..plans.growth_plan import Plan
from .misuse import watch
from .moments import MomentFilling
from .optimizer import FillingOf, Moving, Release, grow_states, move
from .warmup import warm_up, warmup_of
from .zero import rank_parts


def hand_over(
    moved: Sequence[Moving],
    plan: Plan,
    teacher: nn.Module,
    student: nn.Module,
    warmup: int,
    filling: FillingOf = MomentFilling,
    release: Release | None = None,
) -> None:
    """Let the optimizers of a teacher train its student, and look out for one that was left.

    Args:
        moved: The optimizers.
        plan: The plan, or the chain of plans, that made the student.
        teacher: The teacher.
        student: The student.
        warmup: The number of steps of the warm-up of new entries; 0 for none.
        filling: What grows the tensors of a state by one plan.
        release: Gives back the memory of a tensor of the old state; None: the old state stays until the end.

    Raises:
        GrowError: The student lacks a parameter that an optimizer trains; nothing was changed.
    """
    states = grow_states(moved, plan, filling, release)
    with all_or_none(moved):
        move(moved, states, plan, student)
        warm_up(moved, plan, teacher, student, warmup, filling)
        _give_back(teacher, student, [one.optimizer for one in moved])
        watch(teacher, student, moved)


def _give_back(teacher: nn.Module, student: nn.Module, optimizers: Sequence[Optimizer]) -> None:
    """Where the teacher's modules hold one of the optimizers, let the student's hold it, and not a copy."""
    known = {id(one): one for one in optimizers}
    ours = dict(named_modules(student))
    for path, module in named_modules(teacher):
        held = {name: value for name, value in vars(module).items() if id(value) in known}
        for name in held.keys() & vars(ours[path]).keys() if path in ours else ():
            vars(ours[path])[name] = held[name]


@contextmanager
def all_or_none(moved: Sequence[Moving]) -> Iterator[None]:
    """Give optimizers back what they had, if the block does not come to its end."""
    kept = [_Kept(one) for moving in moved for one in _optimizers(moving)]
    try:
        yield
    except BaseException:
        for one in kept:
            one.give_back()
        raise


def _optimizers(moving: Moving) -> list[Optimizer]:
    return [moving.optimizer] if moving.keeper is moving.optimizer else [moving.keeper, moving.optimizer]


class _Kept:
    """What growth changes in one optimizer: attributes, and the lists and dicts that they are."""

    def __init__(self, optimizer: Optimizer) -> None:
        warmup = warmup_of(optimizer)
        self._attributes = [(table, dict(table)) for table in map(vars, [optimizer, warmup] if warmup else [optimizer])]
        groups = [*optimizer.param_groups, *(group for rank in rank_parts(optimizer) for group in rank)]
        held: list[Any] = [value for group in groups for value in group.values()]
        held += [*vars(optimizer).values(), optimizer.param_groups, optimizer.state]
        self._lists = [(one, list(one)) for one in held if isinstance(one, list)]
        self._tables = [(one, dict(one)) for one in held if isinstance(one, dict)]

    def give_back(self) -> None:
        """Put it all back; the same objects hold it."""
        for table, before in [*self._attributes, *self._tables]:
            table.clear()
            table.update(before)
        for entries, held in self._lists:
            entries[:] = held
