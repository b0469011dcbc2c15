"""An optimizer of the teacher made the student's: the same object, with its groups, options and schedulers.

First everything is read and made; only then is the optimizer changed. So an error leaves it as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..base.progress import step
from ..base.wording import a_type
from ..errors import GrowError
from ..model.copies import named_parameters
from ..model.sharded import is_dtensor, is_sharded
from ..model.strides import laid_as
from ..model.supported import check_supported
from ..plans.changes import in_order
from ..plans.growth_plan import Plan
from .groups import GroupNumber, groups_of_new, put_in_order
from .holdings import check_holdings, layers_of
from .kernels import around
from .moments import Grow, MomentFilling, copied, without_past
from .param_names import renamed
from .rules import Rule, check_shared, needed, rule_of, shared_state
from .zero import local_part, repartition

Optimizers = Optimizer | Sequence[Optimizer]
State = dict[str, Any]  # of one parameter, by the names in optimizer.state
FillingOf = Callable[[Plan], MomentFilling]
Release = Callable[[Tensor], None]  # gives the memory of a tensor back


@dataclass
class Moving:
    """An optimizer on its way from the teacher to the student.

    Attributes:
        optimizer: The one that the user has, with its groups.
        keeper: The one that keeps the states: the same, or that of a rank's part.
        rule: How it grows; None where it is dropped.
        named: The names of the teacher's parameters that it trains, by their `id`.
        states: Their states, by name; those that have none yet are left out.
    """

    optimizer: Optimizer
    keeper: Optimizer
    rule: Rule | None
    named: dict[int, str]
    states: dict[str, State] = field(default_factory=dict)


def moving(optimizers: object, model: nn.Module, *, reset: bool) -> list[Moving]:
    """The optimizers of a model, checked before anything is made.

    Args:
        optimizers: An optimizer, or a sequence of them; None for none.
        model: The teacher.
        reset: Whether the state of its parameters is dropped.

    Raises:
        GrowError: One is no optimizer, trains nothing of the model, or keeps state that is not known to grow.
    """
    given = as_list(optimizers)
    if not given:
        return []
    if not is_sharded(model):  # its copy on meta is checked
        check_supported(model)
    parameters = named_parameters(model)
    moved = [_moving(one, parameters, reset) for one in given]
    return list({id(one.optimizer): one for one in moved}.values())  # one that is given twice is moved once


def as_list(optimizers: object) -> list[object]:
    """None, one optimizer or a sequence of them, as a list."""
    if optimizers is None:
        return []
    return list(optimizers) if isinstance(optimizers, list | tuple) else [optimizers]


def unwrapped(optimizer: object) -> Optimizer:
    """The optimizer inside a framework's wrapper, which keeps it as `optimizer`.

    Raises:
        GrowError: It is none.
    """
    inner = layers_of(optimizer)[-1]
    if not isinstance(inner, Optimizer):
        raise GrowError(f"optimizer is to be a torch.optim.Optimizer, or a list of them, not {a_type(optimizer)}")
    return inner


def _moving(optimizer: object, parameters: Mapping[str, Tensor], reset: bool) -> Moving:
    inner = unwrapped(optimizer)
    kind, names = type(inner).__name__, {id(t): n for n, t in parameters.items()}
    trained = [p for group in inner.param_groups for p in group["params"]]
    named = {id(p): names[id(p)] for p in trained if id(p) in names}
    if not named:
        raise GrowError(
            f"the {kind} trains none of the model's parameters; give the optimizer that was made for this model"
        )
    part = local_part(inner)
    keeper = part or inner
    rule = None if reset else needed(keeper).for_groups(keeper.param_groups)
    check_holdings(layers_of(optimizer), names)
    moved = Moving(inner, keeper, rule, named)
    if rule is not None:
        check_shared(kind, shared_state(keeper.state))
    for parameter in trained if rule is not None else ():
        state = keeper.state.get(parameter)
        if state and id(parameter) in named:
            assert rule is not None
            if unknown := rule.unknown(state, parameter.shape):
                raise GrowError(
                    f"how {unknown!r} in the state that {kind} keeps for {names[id(parameter)]!r} grows is not known; "
                    "give reset=True, which drops the state"
                )
            moved.states[named[id(parameter)]] = dict(state)
    return moved


# -- growing ---------------------------------------------------------------------------------------


def grow_states(
    moved: Sequence[Moving], plan: Plan, filling: FillingOf = MomentFilling, release: Release | None = None
) -> list[dict[str, State]]:
    """The states for the student of a chain of plans, by the names of its parameters.

    Args:
        moved: The optimizers.
        plan: The chain.
        filling: What grows the tensors of a state by one plan.
        release: Gives back the memory of a tensor that has grown; None: nothing is changed.
    """
    grown = []
    with step("optimizer", sum(len(one.states) for one in moved)):
        for one in moved:
            states = one.states
            for single in plan.steps if one.rule is not None and states else ():
                states = grown_by(single, states, one.rule, filling, release)  # type: ignore[arg-type]
            grown.append(states)
    return grown


@torch.no_grad()
def grown_by(
    plan: Plan,
    states: Mapping[str, State],
    rule: Rule,
    filling_of: FillingOf = MomentFilling,
    release: Release | None = None,
) -> dict[str, State]:
    """The states of the parameters of one plan's student, from those of its teacher; new memory.

    Where `release` is given, what a DTensor of the old states takes is given back once it has grown.
    """
    filling, planned = filling_of(plan), {one.name: one for one in plan.tensors}
    larger: dict[str, State] = {}
    for name, state in states.items():
        larger[name] = rule.grown(state, filling.of(planned[name]) if name in planned else copied)
        for key, value in state.items() if release is not None else ():
            if is_dtensor(value) and larger[name].get(key) is not value:
                release(value)  # type: ignore[misc]
    for change in sorted(plan.changes, key=in_order):
        for path, (old, new) in change.kernels.items():
            _replace(larger, f"{path}.weight", rule, around(old, new))
        for name in [name for name in larger if not change.resizes(name)]:  # else it is new, without a state yet
            for twin in change.twins(name):
                larger[twin] = rule.grown(larger[name], without_past)
    return {plan.numbering(name): state for name, state in larger.items()}


def _replace(states: dict[str, State], name: str, rule: Rule, grow: Grow) -> None:
    if name in states:
        states[name] = rule.grown(states[name], grow)


# -- the optimizer changes -------------------------------------------------------------------------


def move(moved: Sequence[Moving], states: Sequence[Mapping[str, State]], plan: Plan, student: nn.Module) -> None:
    """Put the student's parameters and their states into the optimizers of the teacher.

    Raises:
        GrowError: The student lacks a parameter that an optimizer trains; nothing was changed.
    """
    parameters = named_parameters(student)
    before = {p: name for one in moved for p, name in one.named.items()}
    moved = [replace(one, named={p: plan.student_name(name) for p, name in one.named.items()}) for one in moved]
    missing = [name for one in moved for name in one.named.values() if name not in parameters]
    if missing:
        raise GrowError(f"the student has no parameter {missing[0]!r}, which the optimizer trains")
    for name, made in [(name, made) for one in states for name, made in one.items() if name in parameters]:
        made.update(laid_out(made, parameters[name]))
    lists = _lists(moved, plan, parameters)
    for number, (one, state) in enumerate(zip(moved, states, strict=True)):
        names = renamed(one.optimizer.param_groups, lists[number], before, one.named, parameters)
        _commit(one, state, lists[number], names, parameters)


def laid_out(state: State, parameter: Tensor) -> State:
    """The state of a parameter, in memory as that lies: torch's fused kernels pair entries by their places."""
    return {key: laid_as(value, parameter) if isinstance(value, Tensor) else value for key, value in state.items()}


def _complete_fused_sgd(optimizer: Optimizer) -> None:
    """Give new parameters a momentum of 0 where torch's fused SGD needs one: it takes a step with all or with none."""
    for group in optimizer.param_groups if isinstance(optimizer, torch.optim.SGD) else ():
        states = [optimizer.state[p] for p in group["params"] if p in optimizer.state]
        if group.get("fused") and any(state.get("momentum_buffer") is not None for state in states):
            for p in group["params"]:
                if p.requires_grad and optimizer.state[p].get("momentum_buffer") is None:
                    optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)


def _lists(moved: Sequence[Moving], plan: Plan, parameters: Mapping[str, Tensor]) -> list[list[list[Tensor]]]:
    """For each group of each optimizer what it is to train, in the order of the student's parameters."""
    lists: list[list[list[Tensor]]] = []
    trained: dict[str, GroupNumber] = {}
    for number, one in enumerate(moved):
        lists.append([])
        for position, group in enumerate(one.optimizer.param_groups):
            names = [one.named.get(id(p)) for p in group["params"]]
            trained.update({name: (number, position) for name in names if name is not None})
            both = zip(group["params"], names, strict=True)
            lists[-1].append([p if name is None else parameters[name] for p, name in both])
    order = {id(p): place for place, p in enumerate(parameters.values())}
    rules = [rule_of(one.keeper) for one in moved]
    for name, (number, position) in groups_of_new(
        trained, parameters, plan, lambda number, p: (rule := rules[number]) is None or rule.takes(p)
    ).items():
        params, new = lists[number][position], parameters[name]
        put_in_order(params, new, lambda p: order.get(id(p), len(order)))
    return lists


def _commit(
    one: Moving,
    states: Mapping[str, State],
    lists: Sequence[list[Tensor]],
    names: Sequence[list[str]],
    parameters: Mapping[str, Tensor],
) -> None:
    optimizer = one.optimizer
    replaced = {old: parameters[name] for old, name in one.named.items()}
    for group, params, named in zip(optimizer.param_groups, lists, names, strict=True):
        for old in [p for p in group["params"] if id(p) in replaced]:
            one.keeper.state.pop(old, None)
        if "param_names" in group:
            group["param_names"][:] = named
        group["params"][:] = params
    for name, state in states.items():
        if name in parameters:
            one.keeper.state[parameters[name]] = state
    if one.keeper is not optimizer:
        repartition(optimizer, replaced, lists)
    _complete_fused_sgd(one.keeper)
    if hasattr(optimizer, "_numel_cache"):  # LBFGS counts its parameters once
        optimizer._numel_cache = None
