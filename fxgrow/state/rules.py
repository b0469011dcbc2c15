"""What each optimizer keeps for a parameter, and how that grows: a table by class.

The names are those of torch's `optimizer.state[parameter]`. An optimizer that is not in the table is refused, and so
is one of a subclass with more in its state.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..base.wording import a_type
from ..errors import GrowError
from .moments import COPIED, FIRST, SECOND, SQUARED_UPDATE, UPDATE, Grow, Moment


@dataclass(frozen=True, slots=True)
class Rule:
    """How the state of one parameter grows, entry by entry.

    Attributes:
        moments: By the name in the state what it holds; None for what does not grow.
        factored: The names of the means over the last dimension and over the one before it, for an optimizer that keeps
            these instead of a second moment.
        dims: How many dimensions a new parameter may have that the optimizer is to train; None for any number.
    """

    moments: Mapping[str, Moment | None]
    factored: tuple[str, str] | None = None
    dims: Collection[int] | None = None

    def has(self, names: Collection[str]) -> bool:
        """Whether a state may have entries of these names."""
        return {*names} <= {*self.moments, *(self.factored or ())}

    def takes(self, parameter: Tensor) -> bool:
        """Whether the optimizer can train a parameter of a new layer."""
        return self.dims is None or parameter.ndim in self.dims

    def for_groups(self, groups: Collection[Mapping[str, Any]]) -> Rule:
        """The rule for an optimizer with these groups, whose options say what a state was before the first step.

        Raises:
            GrowError: They say several things.
        """
        changed: dict[str, Moment | None] = dict(self.moments)
        for name, option in _BEGAN.items():
            found = {float(group.get(option, 0.0)) for group in groups} if changed.get(name) is not None else {0.0}
            if len(found) > 1:
                raise GrowError(
                    f"the groups have several values as {option!r}, {sorted(found)}, and with which of them "
                    f"{name!r} began is not known; give reset=True, which drops the state"
                )
            moment = changed.get(name)
            if moment is not None and found - {0.0}:
                changed[name] = replace(moment, began=found.pop())
        return replace(self, moments=changed)

    def unknown(self, state: Mapping[str, Any], shape: torch.Size) -> str:
        """The name in a state that this rule does not know, or that has not the parameter's shape; "" for none."""
        means = self.factored or ()
        for name, value in state.items():
            if name not in self.moments and name not in means:
                return name
            moment = self.moments.get(name)
            if moment is not None and value is not None and (not isinstance(value, Tensor) or value.shape != shape):
                return name
        return ""

    def grown(self, state: Mapping[str, Any], grow: Grow) -> dict[str, Any]:
        """The state of the student's parameter."""
        new: dict[str, Any] = {}
        for name, value in state.items():
            moment = self.moments.get(name)
            if not isinstance(value, Tensor):
                new[name] = value
            else:
                new[name] = value.clone() if moment is None else grow(value, moment)
        rows, columns = self.factored or ("", "")
        if isinstance(state.get(rows), Tensor) and isinstance(state.get(columns), Tensor):
            new[rows], new[columns] = _factored(state[rows], state[columns], grow)
        return new


def _factored(rows: Tensor, columns: Tensor, grow: Grow) -> tuple[Tensor, Tensor]:
    """Both means of a second moment V = rows * columns / mean(rows), so that they stand for the grown V.

    A mean over a dimension that grows is not the mean of the old entries, where these are scaled or not replicated
    equally. It changes by the same factor for all entries of the other dimension.

    Args:
        rows: `(..., R, 1)`, means over the last dimension.
        columns: `(..., 1, C)`, means over the one before.
        grow: For the parameter `(..., R, C)`.
    """
    last, before = rows.ndim - 1, rows.ndim - 2
    new_rows, new_columns = grow(rows, SECOND, (last,)), grow(columns, SECOND, (before,))
    both = (before, last)
    return (
        new_rows * _change(columns, new_columns, last, both, grow),
        new_columns * _change(rows, new_rows, before, both, grow),
    )


def _change(old: Tensor, new: Tensor, dim: int, both: tuple[int, int], grow: Grow) -> Tensor:
    before = grow(old.mean(dim, keepdim=True), SECOND, both)  # (..., 1, 1)
    return torch.where(before > 0, new.mean(dim, keepdim=True) / before, torch.ones_like(before))


_BEGAN = {"sum": "initial_accumulator_value"}  # by the name in a state the option that it begins with: Adagrad

_RULES: dict[type[Optimizer], Rule] = {}


def register(optimizer: type[Optimizer], **moments: Moment | None) -> None:
    """State how the state of an optimizer grows, so that `grow(..., optimizer=)` takes it.

    Args:
        optimizer: Its class; subclasses follow.
        moments: By the name in `optimizer.state[parameter]`: `FIRST` for an average of gradients, `SECOND` for one of
            their squares, `COPIED` for a number of steps, or another `Moment`.

    Raises:
        ValueError: It is no class of optimizers, or registered already.

    Example:
        >>> import fxgrow, torch
        >>> class Lion(torch.optim.Optimizer): ...
        >>> fxgrow.state.register(Lion, exp_avg=fxgrow.state.FIRST)
    """
    if not (isinstance(optimizer, type) and issubclass(optimizer, Optimizer)):
        raise ValueError(f"register takes a class of optimizers, not {a_type(optimizer)}")
    if optimizer in _RULES:
        raise ValueError(f"the state of {optimizer.__name__} is registered already")
    wrong = [name for name, moment in moments.items() if not (moment is None or isinstance(moment, Moment))]
    if wrong:
        raise ValueError(f"{wrong[0]} of {optimizer.__name__} is to be a Moment or COPIED")
    _RULES[optimizer] = Rule(dict(moments))


def names() -> tuple[str, ...]:
    """The optimizers in the table, sorted."""
    return tuple(sorted(kind.__name__ for kind in _RULES))


def rule_of(optimizer: Optimizer) -> Rule | None:
    """The rule for an optimizer's class, or for the nearest class that it inherits from; None where there is none."""
    return _rule_of_class(type(optimizer))


def _rule_of_class(kind: type[Any] | None) -> Rule | None:
    return next((_RULES[one] for one in getattr(kind, "__mro__", ()) if one in _RULES), None)


def needed(optimizer: Optimizer) -> Rule:
    """The rule for an optimizer.

    Raises:
        GrowError: There is none.
    """
    rule = rule_of(optimizer)
    if rule is None:
        kind, inner = type(optimizer).__name__, _inner(optimizer)
        around = f"grow with its {inner!r}, which has the same groups, and clear its own state; or " if inner else ""
        raise GrowError(
            f"how the state of {kind} grows is not known (known are {', '.join(names())}); {around}give reset=True, "
            "which drops the state of the parameters, or register it with fxgrow.state.register"
        )
    return rule


def _inner(optimizer: Optimizer) -> str:
    """The attribute of an optimizer that is another, known one for the same groups; "" for none."""
    held = [(name, one) for name, one in vars(optimizer).items() if isinstance(one, Optimizer)]
    return next((name for name, one in held if one.param_groups is optimizer.param_groups and rule_of(one)), "")


def rule_named(kind: str, options: Collection[str], states: Collection[Mapping[str, Any]]) -> Rule:
    """The rule for optimizers of a class, by its name: one of torch, or one that was registered.

    Args:
        kind: The name.
        options: The names of the optimizer's options.
        states: What it keeps for each parameter.

    Raises:
        GrowError: There is none, or the options are those of another class of the name.
    """
    known = {one.__name__: one for one in _RULES}
    found = known.get(kind) or getattr(torch.optim, kind, None)
    rule = _rule_of_class(found)
    other = sorted({*options} - (_options_of(found) or {*options}) - _FREE)
    if rule is not None and states and other:
        raise GrowError(
            f"how the state of this {kind} grows is not known: it has the option {other[0]!r}, which {kind} in the "
            "table of known ones lacks"
        )
    if rule is None:
        raise GrowError(
            f"how the state of {kind} grows is not known (known are {', '.join(names())}); register it with "
            "fxgrow.state.register"
        )
    return rule


def rule_like(options: Collection[str], states: Collection[Mapping[str, Any]]) -> Rule:
    """The rule for an optimizer of torch of which only the names of its options and its states are known.

    All options are to be those of one class: optimizers from elsewhere keep other things under the same names.

    Raises:
        GrowError: There is none, or several would grow them in different ways.
    """
    used = {name for state in states for name in state}
    fits = [rule for kind, rule in _RULES.items() if rule.has(used) and _may_have(kind, {*options}, bool(used))]
    ways = {tuple((name, rule.moments.get(name)) for name in sorted(used)) for rule in fits}
    if len(ways) != 1:
        what = f"with {', '.join(sorted(used)) or 'no states'} and the options {', '.join(sorted(options))}"
        raise GrowError(f"which optimizer of torch has states {what} is not known")
    return fits[0]


def shared_state(state: Mapping[Any, Any]) -> dict[Any, Any]:
    """The state of an optimizer that belongs to no parameter: what has another key."""
    return {key: value for key, value in state.items() if not isinstance(key, Tensor)}


def check_shared(kind: str, shared: Mapping[Any, Any]) -> None:
    """Whether the state that belongs to no parameter stays as it is when the network grows: numbers do.

    Raises:
        GrowError: It holds tensors of more than a number, or what is no plain data.
    """
    for key, value in shared.items():
        if not _is_of_numbers(value):
            raise GrowError(
                f"how {key!r:.60} in the state of {kind} grows is not known, which belongs to no parameter; give "
                "reset=True, which leaves it as it is, if its optimizer may go on with that"
            )


def _is_of_numbers(value: Any) -> bool:
    """Whether data holds numbers, text and flags alone, in lists and dicts."""
    if isinstance(value, Tensor):
        return not value.ndim
    if isinstance(value, Mapping):
        return all(map(_is_of_numbers, [*value.keys(), *value.values()]))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_of_numbers, value))
    return value is None or isinstance(value, bool | int | float | complex | str | torch.dtype | torch.device)


def may_be_a_tag(groups: Collection[Mapping[str, Any]]) -> set[str]:
    """The options that only some groups have, or that are text: an optimizer's own are in all, and are numbers."""
    return {
        key
        for group in groups
        for key, value in group.items()
        if isinstance(value, str) or any(key not in other for other in groups)
    }


def _may_have(kind: Any, options: set[str], exactly: bool) -> bool:
    """Whether an optimizer of a class may have options of these names, and, if exactly, no others."""
    own = _options_of(kind)
    if own is None:
        return "lr" in options
    return own - _LATER <= options and (not exactly or options - _FREE <= own)


def _options_of(kind: Any) -> set[str] | None:
    """The names of the options of an optimizer; None where it cannot be made with a rate alone."""
    try:
        return set(kind([torch.nn.Parameter(torch.zeros(2, 2))], lr=1e-3).defaults)
    except (TypeError, ValueError):
        return None


_LATER = {"capturable", "fused", "decoupled_weight_decay"}  # files of older releases of torch lack them
_FREE = {"initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum", "swa_lr", "lr_scale"}  # of schedulers


_ADAM = {"step": COPIED, "exp_avg": FIRST, "exp_avg_sq": SECOND, "max_exp_avg_sq": SECOND}

register(torch.optim.SGD, momentum_buffer=FIRST)
register(torch.optim.Adam, **_ADAM)  # AdamW is a subclass
_RULES[torch.optim.SparseAdam] = Rule(_ADAM, dims=())  # gradients of new layers are dense
register(torch.optim.NAdam, **_ADAM, mu_product=COPIED)
register(torch.optim.RAdam, **_ADAM)
register(torch.optim.Adamax, step=COPIED, exp_avg=FIRST, exp_inf=Moment(1, "zero"))  # a maximum: no overshoot from 0
register(torch.optim.Adagrad, step=COPIED, sum=SECOND)
register(torch.optim.Adadelta, step=COPIED, square_avg=SECOND, acc_delta=SQUARED_UPDATE)
register(torch.optim.RMSprop, step=COPIED, square_avg=SECOND, grad_avg=FIRST, momentum_buffer=UPDATE)
if hasattr(torch.optim, "Muon"):  # torch 2.9
    _RULES[torch.optim.Muon] = Rule({"momentum_buffer": FIRST}, dims=(2,))
_RULES[torch.optim.Adafactor] = Rule({"step": COPIED, "variance": SECOND}, factored=("row_var", "col_var"))
