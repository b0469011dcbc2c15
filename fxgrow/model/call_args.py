"""The arguments of `forward`: bound to its signature, and labels for the tensors in them."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from ..base.scalars import plain
from ..base.torch_private import pytree
from ..errors import TraceError
from .example_inputs import ModelInputs, arguments_of, inputs_hint


def taken(model: nn.Module, batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A batch as (args, kwargs), without entries that `forward` does not take, such as the labels beside images."""
    args, kwargs = arguments_of(batch)
    parameters = parameters_of(model)
    stars = {stars_of(p) for p in parameters.values()}
    positional = sum(p.kind is not p.KEYWORD_ONLY and not stars_of(p) for p in parameters.values())
    named = {key: value for key, value in kwargs.items() if "**" in stars or key in parameters}
    return args if "*" in stars else args[:positional], named


def parameters_of(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    """The parameters of `forward` by name.

    Raises:
        TraceError: It does not state them, as functions of C++ do not.
    """
    return _signature(model).parameters


def _signature(model: nn.Module) -> inspect.Signature:
    try:
        return inspect.signature(model.forward)
    except (ValueError, TypeError) as error:
        raise TraceError(f"{type(model).__name__}.forward does not state its arguments: {error}") from error


PLAIN = (bool, int, float, str, type(None))
CONSTANT = (*PLAIN, torch.dtype, torch.device, torch.layout, torch.memory_format)  # what generated code can state


def is_constant(value: Any) -> bool:
    """Whether generated code can state a value, which for one of an enum or of numpy it cannot."""
    return isinstance(value, CONSTANT) and plain(value) is value


def stars_of(parameter: inspect.Parameter) -> str:
    """The prefix of a parameter in the signature: "*", "**" or ""."""
    return (
        "*" if parameter.kind is parameter.VAR_POSITIONAL else "**" if parameter.kind is parameter.VAR_KEYWORD else ""
    )


def default_in_code(parameter: inspect.Parameter) -> Any:
    """The default of a parameter if it can be written as a literal, else None."""
    default = parameter.default
    return default if is_constant(default) or (type(default) is tuple and not default) else None


def bind(model: nn.Module, inputs: ModelInputs) -> dict[str, Any]:
    """The arguments by the names of `forward`; `*args` as a tuple, `**kwargs` as a dict.

    Defaults are filled in as the code of a graph states them: None for those that no code can state.

    Raises:
        TraceError: The inputs do not match the signature.
    """
    bound = _bound(model, inputs)
    given, parameters = set(bound.arguments), parameters_of(model)
    bound.apply_defaults()
    return {
        name: value if name in given or stars_of(parameters[name]) else default_in_code(parameters[name])
        for name, value in bound.arguments.items()
    }


def given_arguments(model: nn.Module, inputs: ModelInputs) -> tuple[str, ...]:
    """The names of the arguments of `forward` that the example inputs give."""
    return tuple(_bound(model, inputs).arguments)


def labelled(arguments: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors in arguments, by labels: "x", "xs[0]", "batch['image']"."""
    return {
        _label(path): leaf for path, leaf in pytree.tree_flatten_with_path(arguments)[0] if isinstance(leaf, Tensor)
    }


def relabelled(arguments: Mapping[str, Any], change: Mapping[str, Callable[[Tensor], Tensor]]) -> dict[str, Any]:
    """The arguments with `change[label]` applied to the tensors with these labels."""

    def one(path: Any, leaf: Any) -> Any:
        return change[_label(path)](leaf) if isinstance(leaf, Tensor) and _label(path) in change else leaf

    changed: dict[str, Any] = pytree.tree_map_with_path(one, dict(arguments))
    return changed


def _label(path: Sequence[Any]) -> str:
    return f"{path[0].key}{pytree.keystr(tuple(path[1:]))}"


def relabelled_inputs(
    model: nn.Module, inputs: ModelInputs, change: Mapping[str, Callable[[Tensor], Tensor]]
) -> ModelInputs:
    """The inputs with `change[label]` applied to the tensors with these labels.

    Raises:
        TraceError: The inputs do not match the signature.
    """
    bound = _bound(model, inputs)
    bound.arguments = relabelled(bound.arguments, change)
    return replace(inputs, args=bound.args, kwargs=bound.kwargs)


def _bound(model: nn.Module, inputs: ModelInputs) -> inspect.BoundArguments:
    try:
        return _signature(model).bind(*inputs.args, **inputs.kwargs)
    except TypeError as error:
        hint = inputs_hint(inputs.args or inputs.kwargs)
        called = f"{type(model).__name__}.forward"
        names = ", ".join(
            p.name if not stars_of(p) else f"{stars_of(p)}{p.name}" for p in parameters_of(model).values()
        )
        raise TraceError(f"example_inputs do not match {called}({names}): {error}{hint}") from None


def is_data(value: Any) -> bool:
    """Whether an argument is a plain value, or a sequence or mapping of them: one that a guard can compare."""
    if type(value) is dict:
        return all(isinstance(key, str) and is_data(entry) for key, entry in value.items())
    return is_constant(value) or (type(value) in (tuple, list) and all(map(is_data, value)))


def is_same_data(value: Any, expected: Any) -> bool:
    """Whether code that is given a plain value does what it does for another one, which it may take apart or print.

    Equality does not say so: 1 == True == 1.0, 0.0 == -0.0, and mappings of another order are equal. Numbers of numpy
    count as Python's.
    """
    if value is expected:
        return True
    if isinstance(expected, dict | tuple | list) or isinstance(value, Tensor | Enum) or isinstance(expected, Enum):
        return type(value) is type(expected) and _are_alike(value, expected)
    if _kind_of(value) != _kind_of(expected):
        return False
    if isinstance(expected, float) and not value:
        return math.copysign(1, value) == math.copysign(1, expected) and not expected
    return bool(value == expected) or (isinstance(expected, float) and value != value and expected != expected)


def _are_alike(value: Any, expected: Any) -> bool:
    """The same for two of one class."""
    if isinstance(value, dict):
        return list(value) == list(expected) and all(is_same_data(value[key], expected[key]) for key in expected)
    if isinstance(value, tuple | list):
        return len(value) == len(expected) and all(map(is_same_data, value, expected))
    return isinstance(value, Enum) and value == expected


def _kind_of(value: Any) -> Any:
    """What kind of number a value is; None where it is none."""
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return bool
    return next((kind for kind in (numbers.Integral, numbers.Real, numbers.Complex) if isinstance(value, kind)), None)
