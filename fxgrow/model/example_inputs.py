"""Example inputs: what the user gives, on the meta device, or a guess from the first layer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..errors import TraceError

SIZES = {
    1: ((128,), (1024,), (16000,), (64,), (32,), (256,), (4096,)),
    2: ((224, 224), (32, 32), (28, 28), (64, 64), (8, 8), (299, 299), (96, 96), (128, 128), (256, 256), (384, 384),
        (16, 16), (48, 48), (112, 112), (160, 160), (240, 240), (320, 320), (512, 512)),
    3: ((16, 112, 112), (32, 32, 32), (16, 16, 16), (64, 64, 64), (8, 32, 32), (8, 8, 8), (96, 96, 96)),
}  # fmt: skip

LONG, MANY = 80, 12  # in messages: characters of a value, entries of a sequence


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """The arguments of one call of the model, on the meta device.

    Attributes:
        args: By position.
        kwargs: By name.
        guessed: Whether they are a guess.
        real: Whether they are real tensors, because the model asks for the numbers in them.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    guessed: bool = False
    real: bool = False

    def named(self, model: nn.Module) -> tuple[str, ...]:
        """The names of the arguments of `forward` that they give."""
        return tuple(_bound(model, self).arguments)

    def __str__(self) -> str:
        shown = [brief(a) for a in self.args] + [f"{k}={brief(v)}" for k, v in self.kwargs.items()]
        return ", ".join(shown)

    def doubled(self) -> ModelInputs:
        """The same with a batch of two, for what normalises over the batch."""
        args, kwargs = pytree.tree_map_only(Tensor, _twice, (self.args, dict(self.kwargs)))
        return ModelInputs(args, kwargs, self.guessed, self.real)


def for_a_run(arguments: Any) -> Any:
    """The same arguments with tensors of their own, where they are real: a run may write to them."""
    return pytree.tree_map_only(Tensor, lambda t: t if t.device.type == "meta" else t.detach().clone(), arguments)


def _twice(x: Tensor) -> Tensor:
    return torch.cat([x, x]) if x.ndim and x.shape[0] == 1 else x


def brief(value: Any) -> str:
    """A value in a few words: of tensors dtype and shape, of long sequences the beginning."""
    if isinstance(value, Tensor):
        kind = "float" if value.is_floating_point() else str(value.dtype).removeprefix("torch.")
        return f"{kind}{list(value.shape)}"
    if isinstance(value, Mapping):
        return f"{{{_some(f'{key!r}: {brief(entry)}' for key, entry in value.items())}}}"
    if type(value) in (list, tuple):
        return f"[{_some(map(brief, value))}]" if isinstance(value, list) else f"({_some(map(brief, value))})"
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= LONG else f"{shown[:LONG]}..."


def _some(entries: Iterable[str]) -> str:
    shown = list(entries)
    return ", ".join(shown if len(shown) <= MANY else [*shown[:MANY], f"... ({len(shown)} in all)"])


def arguments_of(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A tensor, a tuple or list of positional arguments, or a mapping of keyword arguments, as (args, kwargs).

    Raises:
        TraceError: It is none of these.
    """
    if isinstance(example, ModelInputs):
        return example.args, dict(example.kwargs)
    if isinstance(example, Tensor):
        return (example,), {}
    if isinstance(example, tuple | list):
        return tuple(example), {}
    if isinstance(example, Mapping):
        return (), dict(example)
    raise TraceError(
        f"example_inputs is a {type(example).__name__}; expected a tensor, a tuple of positional arguments "
        "or a dict of keyword arguments"
    )


def taken(model: nn.Module, batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A batch as (args, kwargs), without what `forward` has no place for: the labels beside the images."""
    args, kwargs = arguments_of(batch)
    parameters = parameters_of(model)
    stars = {stars_of(p) for p in parameters.values()}
    places = sum(p.kind is not p.KEYWORD_ONLY and not stars_of(p) for p in parameters.values())
    named = {key: value for key, value in kwargs.items() if "**" in stars or key in parameters}
    return args if "*" in stars else args[:places], named


def as_real_inputs(example: Any) -> ModelInputs | None:
    """The same as they are, or None where they are on the meta device."""
    args, kwargs = arguments_of(example)
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    return None if any(t.device.type == "meta" for t in tensors) else ModelInputs(args, kwargs, real=True)


def as_inputs(example: Any) -> ModelInputs:
    """The same on the meta device."""
    args, kwargs = pytree.tree_map_only(Tensor, lambda t: t.detach().to("meta"), arguments_of(example))
    guessed = isinstance(example, ModelInputs) and example.guessed
    return ModelInputs(args, kwargs, guessed)


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


# -- as plain data -------------------------------------------------------------------------------------


def to_data(structure: Any) -> Any:
    """A structure of tensors and plain values as JSON can hold it: of tensors the shape, and the dtype of integers.

    Raises:
        TypeError: It holds something else.
    """
    if isinstance(structure, Tensor):
        kind = "float" if structure.is_floating_point() else str(structure.dtype).removeprefix("torch.")
        return {"tensor": list(structure.shape), "dtype": kind}
    if isinstance(structure, bool | int | float | str) or structure is None:
        return structure
    if isinstance(structure, tuple | list):
        return {type(structure).__name__: [to_data(entry) for entry in structure]}
    if type(structure) is dict:
        return {"dict": [[to_data(key), to_data(value)] for key, value in structure.items()]}
    raise TypeError(f"a {type(structure).__name__} cannot be written down")


def from_data(data: Any, dtype: torch.dtype) -> Any:
    """What `to_data` wrote, with tensors on the meta device, the floating ones of a dtype."""
    if not isinstance(data, Mapping):
        return data
    if "tensor" in data:
        kind = dtype if data["dtype"] == "float" else getattr(torch, data["dtype"])
        return torch.empty(data["tensor"], dtype=kind, device="meta")
    if "dict" in data:
        return {from_data(key, dtype): from_data(value, dtype) for key, value in data["dict"]}
    (kind, entries), *_ = data.items()
    return (tuple if kind == "tuple" else list)([from_data(entry, dtype) for entry in entries])


# -- guesses -------------------------------------------------------------------------------------------


def guesses(model: nn.Module) -> Iterator[ModelInputs]:
    """ModelInputs that a model with such a first layer usually takes, likeliest first; a batch of two.

    Raises:
        TraceError: The model takes more than one input, or has no layer to tell from.
    """
    needed = [
        p.name
        for p in inspect.signature(model.forward).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if len(needed) > 1:
        raise TraceError(f"{type(model).__name__}.forward takes {', '.join(needed)}: give example_inputs for them")
    for layer in model.modules():
        shapes = _shapes(layer)
        if shapes:
            weight: Tensor = layer.weight  # type: ignore[assignment]
            for shape, dtype in shapes:
                example = torch.empty(shape, dtype=dtype or weight.dtype, device="meta")
                yield ModelInputs((example,), {}, guessed=True)
            return
    raise TraceError(f"{type(model).__name__} has no layer to infer its input from: give example_inputs")


def _shapes(layer: nn.Module) -> list[tuple[tuple[int, ...], torch.dtype | None]]:
    """Input shapes to try for a first layer, with the dtype where it is not the weight's."""
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        channels, dims = layer.in_channels, len(layer.kernel_size)
        return [((2, channels, *size), None) for size in SIZES[dims]]
    if isinstance(layer, nn.Linear):
        return [((2, layer.in_features), None), ((2, 16, layer.in_features), None)]
    if isinstance(layer, nn.Embedding):
        return [((2, 16), torch.int64)]
    return []
