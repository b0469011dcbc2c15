"""A student from its plan and its tensors: the architecture is made on meta from a new first teacher, then filled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..base.magnitude import is_inexact
from ..base.wording import a_type
from ..errors import GrowError, PlanError
from ..model.copies import clone_shared, named_parameters, named_tensors, on_meta
from ..model.example_inputs import ExampleInputs
from ..model.tree import set_training
from ..model.walk import named_modules
from ..plans.growth_plan import Plan
from ..rewrite.apply_plans import apply_one, apply_plans
from .contents import MEMORY, Contents, SavedOptimizer
from .optimizer import laid_out
from .rules import rule_of
from .warmup import begin


def rebuilt(
    first: nn.Module, contents: Contents, tensors: Mapping[str, Tensor], example_inputs: ExampleInputs | None = None
) -> nn.Module:
    """The model that was saved.

    Args:
        first: A model like the first teacher. It is used up.
        contents: What the file says.
        tensors: The parameters and buffers of the saved model, by name.
        example_inputs: Of the first teacher, for a model whose code decides by numbers.

    Raises:
        GrowError: The tensors are those of another model.
    """
    model = first if contents.plan is None else _grown(first, contents.plan, tensors, example_inputs)
    mine = named_tensors(model)
    wrong = [name for name in mine.keys() | tensors.keys() if not _alike(mine.get(name), tensors.get(name))]
    if wrong:
        name = min(wrong)
        shapes = [
            f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)}" if t is not None else "missing"
            for t in (tensors.get(name), mine.get(name))
        ]
        raise GrowError(f"{name!r} is {shapes[0]} in the file and {shapes[1]} in the model that the factory makes")
    filled = {id(tensor): _filled(name, tensor, contents, tensors) for name, tensor in mine.items()}
    loaded = clone_shared(model, filled)
    for path, module in named_modules(loaded):
        if path in contents.training:
            set_training(module, training=contents.training[path])
    return loaded


def _grown(
    first: nn.Module, plan: Plan, tensors: Mapping[str, Tensor], example_inputs: ExampleInputs | None
) -> nn.Module:
    made = _dtypes(first)
    floats = {saved.dtype for saved in tensors.values() if saved.is_floating_point()}
    saved = dict.fromkeys(made, next(iter(floats))) if len(floats) == 1 else {}
    try:
        return apply_plans(plan, _cast(on_meta(first), saved))
    except GrowError:  # a model that only runs on real tensors
        _take_flags(first, tensors)
    try:
        return apply_plans(plan, _cast(first, saved), example_inputs)
    except GrowError as error:
        _cast(first, made)
        for model, example in ((on_meta(first), None), (first, example_inputs)):
            with suppress(GrowError):
                return apply_plans(plan, model, example, one=_apply_in_any_dtype)
        if not isinstance(error, PlanError):
            raise
        raise PlanError(
            f"{error} (the factory is to make a model like the first teacher, as it was before any growth)"
        ) from error


FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def _apply_in_any_dtype(
    plan: Plan, model: nn.Module, example_inputs: ExampleInputs | None, calibration: Iterable[ExampleInputs] | None
) -> nn.Module:
    """The student of one plan, in the dtype in which the model's code is the plan's.

    Code may ask for the dtype (`torch.finfo(x.dtype)`), and a student may have been cast after its growth. The plan's
    fingerprint says whether a dtype is right, but not which one.
    """
    made = _dtypes(model)
    try:
        return apply_one(plan, model, example_inputs, calibration)
    except GrowError:
        for dtype in sorted(set(FLOATS) - set(made.values()), key=FLOATS.index) if made else ():
            with suppress(GrowError):
                return apply_one(plan, _cast(model, dict.fromkeys(made, dtype)), example_inputs, calibration)
        raise


def _take_flags(first: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a new teacher the buffers that have not grown: its code may decide by them."""
    for name, mine in named_tensors(first).items():
        saved = tensors.get(name)
        if saved is not None and not isinstance(mine, nn.Parameter) and not mine.is_meta and saved.shape == mine.shape:
            mine.copy_(saved)


def _dtypes(model: nn.Module) -> dict[str, torch.dtype]:
    """The dtypes of a model's floating tensors, by name."""
    return {name: tensor.dtype for name, tensor in named_tensors(model).items() if tensor.is_floating_point()}


def _cast(model: nn.Module, dtypes: Mapping[str, torch.dtype]) -> nn.Module:
    """Give a model of our own tensors of other dtypes, as the plan's inputs are to have; by name."""
    for name, tensor in named_tensors(model).items():
        if name in dtypes:
            tensor.data = tensor.data.to(dtypes[name])
    return model


def _alike(mine: Tensor | None, saved: Tensor | None) -> bool:
    if mine is None or saved is None or mine.shape != saved.shape:
        return False
    return mine.is_floating_point() == saved.is_floating_point() and mine.is_complex() == saved.is_complex()


def _filled(name: str, mine: Tensor, contents: Contents, tensors: Mapping[str, Tensor]) -> Tensor:
    data = tensors[name]
    if name in contents.memory:
        data = data.contiguous(memory_format=MEMORY.get(contents.memory[name], torch.contiguous_format))
    if not isinstance(mine, nn.Parameter):
        return data
    made = nn.Parameter(data, is_inexact(data) and name not in contents.frozen)
    made.__dict__.update(mine.__dict__)
    return made


def restore(optimizer: Optimizer, saved: SavedOptimizer, model: nn.Module) -> None:
    """Give an optimizer of a loaded model the options and the state that were saved, by the names of parameters.

    Raises:
        GrowError: It trains other parameters, or has other groups.
    """
    if not isinstance(optimizer, Optimizer):
        raise GrowError(f"optimizer is to make a torch.optim.Optimizer, and made {a_type(optimizer)}")
    parameters = named_parameters(model)
    names = {id(t): n for n, t in parameters.items()}
    kind = type(optimizer).__name__
    mine = [sorted(names.get(id(p), "") for p in group["params"]) for group in optimizer.param_groups]
    theirs = [sorted(group) for group, _ in saved.groups]
    if kind != saved.kind or mine != theirs or not saved.states.keys() <= parameters.keys():
        raise GrowError(
            f"the file has the state of {saved.kind} with groups of {[len(group) for group in theirs]} parameters, and "
            f"the optimizer is {kind} with {[len(group) for group in mine]}, or with others; make it as before"
        )
    _check_states(optimizer, saved, parameters)
    for group, (order, options) in zip(optimizer.param_groups, saved.groups, strict=True):
        given = {id(p): name for p, name in zip(group["params"], group.get("param_names", ()), strict=False)}
        group.update(options)
        group["params"][:] = [parameters[name] for name in order]
        if "param_names" in group:
            group["param_names"][:] = [given[id(p)] for p in group["params"]]
    optimizer.state.clear()
    optimizer.state.update(saved.shared)
    for name, state in saved.states.items():
        optimizer.state[parameters[name]] = laid_out(state, parameters[name])
    if saved.warmup is not None:
        begin(optimizer, saved.warmup["new"], model, saved.warmup["steps"], saved.warmup["done"])


def _check_states(optimizer: Optimizer, saved: SavedOptimizer, parameters: Mapping[str, Tensor]) -> None:
    """Whether options and states are such as this optimizer has them, since the file may come from anyone.

    Raises:
        GrowError: They are not.
    """
    kind, rule = type(optimizer).__name__, rule_of(optimizer)
    for group, (_, options) in zip(optimizer.param_groups, saved.groups, strict=True):
        wrong = [key for key in options if key in _NO_OPTIONS or not _like(group.get(key), options[key])]
        if wrong:
            raise GrowError(f"the file has {options[wrong[0]]!r:.60} as the option {wrong[0]!r} of {kind}")
    for name, state in saved.states.items():
        if rule is not None and (unknown := rule.unknown(state, parameters[name].shape)):
            raise GrowError(f"the file has a {unknown!r} in the state of {name!r} that {kind} cannot have")
    new = {} if saved.warmup is None else saved.warmup["new"]
    if not all(name in parameters and mask.shape == parameters[name].shape for name, mask in new.items()):
        raise GrowError("the file has a warm-up of other parameters than the model's")


_NO_OPTIONS = ("params", "param_names")


def _like(mine: Any, saved: Any) -> bool:
    """Whether an option may be what a new optimizer has at its place: numbers, flags, pairs of numbers; None is any."""
    if mine is None or saved is None:
        return True
    if isinstance(mine, tuple | list):
        return isinstance(saved, tuple | list) and len(mine) == len(saved) and all(map(_like, mine, saved))
    if _is_number(mine):
        return _is_number(saved)
    return isinstance(saved, type(mine))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1)
