"""What a checkpoint holds: the weights, the plans since the first teacher, optimizers by name, and the user's own data.

tensors     the model's under their own names; ".optimizer.N" and ".extra.N", which no module can be called
text        JSON: the format's version, the plan, what is frozen, modes, groups and states of optimizers, the rest
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..base.decode import DecodeError, Leniency, decode, parse_json
from ..errors import FxgrowError, GrowError
from ..model.copies import named_tensors
from ..model.walk import named_modules
from ..plans.growth_plan import Plan
from ..plans.serial import version_of
from ..rewrite.fill import memory_format
from . import plain
from .rules import shared_state
from .warmup import is_state, warmup_of

FORMAT = "fxgrow.checkpoint"
MAJOR, MINOR = 1, 1
OPTIMIZER, EXTRA = ".optimizer.", ".extra."
MEMORY = {"channels_last": torch.channels_last, "channels_last_3d": torch.channels_last_3d}


@dataclass
class SavedOptimizer:
    """An optimizer by the names of the parameters that it trains.

    Attributes:
        kind: Its class, for messages.
        groups: The names in each group, and the group's options.
        states: By the name of a parameter its state.
        warmup: The warm-up that it is in: its "steps", how many are "done", and by parameter which entries are "new".
        shared: The state that belongs to no parameter, by its keys.
    """

    kind: str
    groups: list[tuple[list[str], dict[str, Any]]]
    states: dict[str, dict[str, Any]]
    warmup: dict[str, Any] | None = None
    shared: dict[Any, Any] = field(default_factory=dict)


@dataclass
class Contents:
    """What a file says, beside the tensors.

    Attributes:
        plan: The chain since the first teacher; None for a model that was not grown.
        frozen: The parameters that take no gradient.
        training: The mode of each module, by its path.
        memory: The memory format of each tensor that does not lie row by row.
        optimizers: The optimizers.
        extra: The user's own data.
    """

    plan: Plan | None
    frozen: list[str]
    training: dict[str, bool]
    memory: dict[str, str] = field(default_factory=dict)
    optimizers: list[SavedOptimizer] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _GroupText:
    names: tuple[str, ...]
    options: Any


@dataclass(frozen=True, slots=True)
class _OptimizerText:
    kind: str
    groups: tuple[_GroupText, ...]
    states: Mapping[str, Any]
    warmup: Any = None
    shared: Any = None


@dataclass(frozen=True, slots=True)
class _Text:
    """The text of a file: `Contents` as JSON, with what holds tensors as `plain` writes it."""

    plan: str | None
    frozen: tuple[str, ...]
    training: Mapping[str, bool]
    memory: Mapping[str, str]
    optimizers: tuple[_OptimizerText, ...]
    extra: Mapping[str, Any]


def contents_of(
    model: nn.Module, plan: Plan | None, optimizers: Sequence[Optimizer], extra: Mapping[str, Any]
) -> Contents:
    """What is to be kept of a model and its optimizers.

    Raises:
        GrowError: An optimizer trains a parameter that is not the model's.
    """
    tensors = named_tensors(model)
    formats = {name: memory_format(tensor) for name, tensor in tensors.items()}
    names = {id(t): n for n, t in tensors.items()}
    return Contents(
        plan,
        [name for name, t in tensors.items() if isinstance(t, nn.Parameter) and not t.requires_grad],
        {path: bool(module.training) for path, module in named_modules(model)},
        {name: key for name, how in formats.items() for key, known in MEMORY.items() if how is known},
        [_saved(optimizer, names) for optimizer in optimizers],
        dict(extra),
    )


def _saved(optimizer: Optimizer, names: Mapping[int, str]) -> SavedOptimizer:
    kind, groups = type(optimizer).__name__, []
    for group in optimizer.param_groups:
        if any(id(p) not in names for p in group["params"]):
            raise GrowError(f"the {kind} trains a parameter that the model does not have; save that one apart")
        options = {key: value for key, value in group.items() if key not in ("params", "param_names")}
        groups.append(([names[id(p)] for p in group["params"]], options))
    states = {names[id(p)]: dict(state) for p, state in optimizer.state.items() if id(p) in names}
    warmup = warmup_of(optimizer)
    return SavedOptimizer(
        kind, groups, states, None if warmup is None else warmup.state(names), shared_state(optimizer.state)
    )


def written(contents: Contents) -> tuple[dict[str, Tensor], str]:
    """The tensors beside the model's, under their names in the file, and the text.

    Raises:
        GrowError: Something is no plain data.
    """
    of_optimizers, of_extra = plain.Tensors(), plain.Tensors()
    optimizers = [
        {
            "kind": one.kind,
            "groups": [
                {"names": names, "options": plain.encode(options, f"the options of {one.kind}", of_optimizers)}
                for names, options in one.groups
            ],
            "states": {n: plain.encode(s, f"the state of {n!r}", of_optimizers) for n, s in one.states.items()},
            "warmup": plain.encode(one.warmup, "the warm-up", of_optimizers),
            "shared": plain.encode(one.shared, f"the state of {one.kind}", of_optimizers),
        }
        for one in contents.optimizers
    ]
    data = {
        "format": FORMAT,
        "version": f"{MAJOR}.{MINOR}",
        "plan": None if contents.plan is None else contents.plan.to_json(),
        "frozen": contents.frozen,
        "training": contents.training,
        "memory": contents.memory,
        "optimizers": optimizers,
        "extra": {key: plain.encode(value, key, of_extra) for key, value in contents.extra.items()},
    }
    numbered = {f"{OPTIMIZER}{i}": t for i, t in enumerate(of_optimizers.numbered)}
    return numbered | {f"{EXTRA}{i}": t for i, t in enumerate(of_extra.numbered)}, json.dumps(data, allow_nan=False)


def read(tensors: dict[str, Tensor], text: str) -> Contents:
    """The contents of a file, whose text may come from anyone; the tensors beside the model's are taken out.

    Raises:
        GrowError: It is no checkpoint of fxgrow, or one of a version that cannot be read.
    """
    of_optimizers, of_extra = _taken(tensors, OPTIMIZER), _taken(tensors, EXTRA)
    try:
        data = parse_json(text) if text else {}
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise DecodeError("it is no file that fxgrow.save wrote")
        major, minor = version_of(data.get("version"))
        if major != MAJOR:
            found = f"it has version {major}.{minor} of the format"
            raise DecodeError(f"{found}, and this fxgrow reads {MAJOR}; update fxgrow")
        stated = decode(_Text, data, leniency=Leniency(defaults=True, extra=True))
        return Contents(
            None if stated.plan is None else Plan.from_json(stated.plan),
            list(stated.frozen),
            dict(stated.training),
            dict(stated.memory),
            [_optimizer(one, of_optimizers) for one in stated.optimizers],
            {key: plain.decode(value, key, of_extra) for key, value in stated.extra.items()},
        )
    except (DecodeError, FxgrowError) as error:
        raise GrowError(f"it is no checkpoint that can be read: {error}") from error


def _taken(tensors: dict[str, Tensor], prefix: str) -> list[Tensor]:
    number = sum(name.startswith(prefix) for name in tensors)
    try:
        return [tensors.pop(f"{prefix}{i}") for i in range(number)]
    except KeyError as error:
        raise GrowError(f"it is no checkpoint that can be read: it lacks the tensor {error}") from None


def _optimizer(stated: _OptimizerText, tensors: Sequence[Tensor]) -> SavedOptimizer:
    groups = [(list(group.names), plain.decode(group.options, "options", tensors)) for group in stated.groups]
    states = {name: plain.decode(state, f"the state of {name!r}", tensors) for name, state in stated.states.items()}
    if not all(isinstance(state, dict) for state in [*states.values(), *(options for _, options in groups)]):
        raise DecodeError("optimizers: expected dicts of options and of states")
    warmup = plain.decode(stated.warmup, "warmup", tensors)
    if warmup is not None and not is_state(warmup):
        raise DecodeError(f"warmup: {warmup!r:.60} is no warm-up")
    shared = plain.decode(stated.shared or {}, "shared", tensors)
    if not isinstance(shared, dict):
        raise DecodeError(f"shared: {shared!r:.60} is no state of an optimizer")
    return SavedOptimizer(stated.kind, groups, states, warmup, shared)
