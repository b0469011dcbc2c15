"""The arguments of `forward`: by name, bound to its signature, with labels for the tensors inside them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ..base.torch_private import pytree
from ..errors import TraceError
from .example_inputs import ModelInputs, arguments_of


def taken(model: nn.Module, batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A batch as (args, kwargs), without what `forward` has no place for: the labels beside the images."""
    args, kwargs = arguments_of(batch)
    parameters = parameters_of(model)
    stars = {stars_of(p) for p in parameters.values()}
    places = sum(p.kind is not p.KEYWORD_ONLY and not stars_of(p) for p in parameters.values())
    named = {key: value for key, value in kwargs.items() if "**" in stars or key in parameters}
    return args if "*" in stars else args[:places], named


def parameters_of(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    """The arguments of `forward` by name."""
    return inspect.signature(model.forward).parameters


PLAIN = (bool, int, float, str, type(None))


def stars_of(parameter: inspect.Parameter) -> str:
    """What stands before an argument's name: "*", "**" or nothing."""
    return (
        "*" if parameter.kind is parameter.VAR_POSITIONAL else "**" if parameter.kind is parameter.VAR_KEYWORD else ""
    )


def default_in_code(parameter: inspect.Parameter) -> Any:
    """The default of an argument, where code can spell it; else None."""
    default = parameter.default
    return default if isinstance(default, PLAIN) or default == () else None


def bind(model: nn.Module, inputs: ModelInputs) -> dict[str, Any]:
    """The arguments by the names of `forward`, defaults filled in; `*args` as a tuple, `**kwargs` as a dict.

    Raises:
        TraceError: They do not fit the signature.
    """
    bound = _bound(model, inputs)
    bound.apply_defaults()
    return dict(bound.arguments)


def given_arguments(model: nn.Module, inputs: ModelInputs) -> tuple[str, ...]:
    """The names of the arguments of `forward` that the example inputs give."""
    return tuple(_bound(model, inputs).arguments)


def labelled(arguments: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors in arguments by the names of `forward`, by their places: "x", "xs[0]", "batch['image']"."""
    return {
        _label(path): leaf for path, leaf in pytree.tree_flatten_with_path(arguments)[0] if isinstance(leaf, Tensor)
    }


def relabelled(arguments: Mapping[str, Any], change: Mapping[str, Callable[[Tensor], Tensor]]) -> dict[str, Any]:
    """The same arguments with the tensors at some places changed."""

    def one(path: Any, leaf: Any) -> Any:
        return change[_label(path)](leaf) if isinstance(leaf, Tensor) and _label(path) in change else leaf

    changed: dict[str, Any] = pytree.tree_map_with_path(one, dict(arguments))
    return changed


def _label(path: Sequence[Any]) -> str:
    return f"{path[0].key}{pytree.keystr(tuple(path[1:]))}"


def relabelled_inputs(
    model: nn.Module, inputs: ModelInputs, change: Mapping[str, Callable[[Tensor], Tensor]]
) -> ModelInputs:
    """The arguments of a call with the tensors at some places changed.

    Raises:
        TraceError: They do not fit the signature.
    """
    bound = _bound(model, inputs)
    bound.arguments = relabelled(bound.arguments, change)
    return replace(inputs, args=bound.args, kwargs=bound.kwargs)


def _bound(model: nn.Module, inputs: ModelInputs) -> inspect.BoundArguments:
    try:
        return inspect.signature(model.forward).bind(*inputs.args, **inputs.kwargs)
    except TypeError as error:
        raise TraceError(f"example_inputs do not fit {type(model).__name__}.forward: {error}") from None
