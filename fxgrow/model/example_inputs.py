"""Example inputs: the arguments of one call, on the meta device or real, and as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..base.torch_private import pytree
from ..base.wording import a_type, dtype_name
from ..errors import TraceError, in_words

MAX_CHARACTERS, MAX_ENTRIES = 80, 12  # in messages: of a value, of a sequence


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """The arguments of one call of the model, on the meta device unless `real`.

    Attributes:
        args: The positional arguments.
        kwargs: The keyword arguments.
        guessed: Whether they were guessed from the first layer.
        real: Whether tensors have values, because the control flow of the model depends on them.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    guessed: bool = False
    real: bool = False

    def __str__(self) -> str:
        shown = [brief(a) for a in self.args] + [f"{k}={brief(v)}" for k, v in self.kwargs.items()]
        return ", ".join(shown)

    def doubled(self) -> ModelInputs:
        """The inputs with batches of one doubled, for norms over the batch."""
        args, kwargs = pytree.tree_map_only(Tensor, _twice, (self.args, dict(self.kwargs)))
        return ModelInputs(args, kwargs, self.guessed, self.real)


class Forms:
    """Several forms of inputs that a model takes, each as example inputs of its own: with labels and without them.

    A student with `output="module"` that is grown with them computes the teacher's function in each. Of figures that
    need a run, such as FLOPs, the first form is meant.

    Args:
        examples: A tensor, a tuple of positional arguments or a mapping of keyword arguments for each form.

    Raises:
        TraceError: There is none, or one is of another type.

    Example:
        >>> import torch, fxgrow
        >>> images, labels = torch.randn(2, 4), torch.tensor([0, 1])
        >>> fxgrow.Forms(images, {"x": images, "labels": labels})
        Forms(float[2, 4]; x=float[2, 4], labels=int64[2])
    """

    def __init__(self, *examples: Tensor | Sequence[object] | Mapping[str, object] | ModelInputs) -> None:
        if not examples:
            raise TraceError("Forms takes example inputs, one argument for each form, and got none")
        self.examples = tuple([ModelInputs(*arguments_of(example)) for example in examples])

    def __repr__(self) -> str:
        return f"Forms({'; '.join(map(str, self.examples))})"


ExampleInputs: TypeAlias = Tensor | Sequence[object] | Mapping[str, object] | ModelInputs | Forms
"""A tensor, a tuple or list of positional arguments, a mapping of keyword arguments, the `inputs` of a `Traced`, or
several of these as `Forms`."""


def copied_arguments(arguments: Any) -> Any:
    """The arguments with real tensors copied, because a run may write to them."""
    return pytree.tree_map_only(Tensor, lambda t: t if t.device.type == "meta" else t.detach().clone(), arguments)


def _twice(x: Tensor) -> Tensor:
    return torch.cat([x, x]) if x.ndim and x.shape[0] == 1 else x


def brief(value: Any) -> str:
    """A short text for a value: dtype and shape of a tensor, the first entries of a sequence."""
    if isinstance(value, Tensor):
        kind = "float" if value.dtype is torch.float32 else dtype_name(value.dtype)
        return f"{kind}{list(value.shape)}"
    if isinstance(value, Mapping):
        return f"{{{_some(f'{key!r}: {brief(entry)}' for key, entry in value.items())}}}"
    if type(value) in (list, tuple):
        return f"[{_some(map(brief, value))}]" if isinstance(value, list) else f"({_some(map(brief, value))})"
    if type(value) in (int, float, bool):
        return f"{value}"  # for sizes that vary, a compiler can make this text and no `repr`
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= MAX_CHARACTERS else f"{shown[:MAX_CHARACTERS]}..."


def _some(entries: Iterable[str]) -> str:
    shown = list(entries)
    return ", ".join(shown if len(shown) <= MAX_ENTRIES else [*shown[:MAX_ENTRIES], f"... ({len(shown)} in all)"])


def arguments_of(example: ExampleInputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """(args, kwargs) of a tensor, a tuple or list of positional arguments, or a mapping of keyword arguments.

    Raises:
        TraceError: `example` is none of these.
    """
    if isinstance(example, Forms):
        raise TraceError(f"{example!r:.200}: one form of inputs is taken here at a time; give each by itself")
    if isinstance(example, ModelInputs):
        return example.args, dict(example.kwargs)
    if isinstance(example, Tensor):
        return (example,), {}
    if isinstance(example, tuple | list):
        return tuple(example), {}
    if isinstance(example, Mapping):
        return (), dict(example)
    raise TraceError(
        f"example_inputs is {a_type(example)}; expected a tensor, a tuple of positional arguments "
        f"or a dict of keyword arguments{inputs_hint((example,))}"
    )


def inputs_hint(arguments: Any) -> str:
    """What to give where a shape or an array stands for a tensor; empty where neither does."""
    leaves = pytree.tree_leaves(arguments)
    if any(isinstance(leaf, Tensor) for leaf in leaves):
        return _forms_hint(arguments)
    if any(type(leaf).__name__ == "ndarray" for leaf in leaves):
        return ". For a NumPy array give torch.from_numpy(array)"
    shape = _shape_in(arguments)
    return f". For a tensor of this shape give torch.randn{tuple(shape)}" if shape else ""


def _forms_hint(arguments: Any) -> str:
    """What to give where each argument looks like those of a whole call; empty where one does not."""
    given = arguments[0] if isinstance(arguments, tuple) and arguments[1:] == ({},) else arguments
    each = list(given) if isinstance(given, tuple | list) and len(given) > 1 else []
    tensors = [any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(one)) for one in each]
    calls = [isinstance(one, tuple | Mapping) for one in each]
    several = ". For several forms of inputs, such as with labels and without, give fxgrow.Forms(first, second)"
    return several if all(tensors) and any(calls) else ""


def _shape_in(value: Any) -> Sequence[int]:
    """The first sequence of several sizes in some arguments."""
    entries = list(value.values()) if isinstance(value, Mapping) else value
    if not isinstance(entries, tuple | list):
        return ()
    if len(entries) > 1 and all(type(entry) is int and entry > 0 for entry in entries):
        return () if isinstance(value, Mapping) else entries
    return next(filter(None, map(_shape_in, entries)), ())


def as_real_inputs(example: ExampleInputs) -> ModelInputs | None:
    """The inputs with real tensors; None if one is on the meta device."""
    args, kwargs = arguments_of(example)
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    return None if any(t.device.type == "meta" for t in tensors) else ModelInputs(args, kwargs, real=True)


def as_inputs(example: ExampleInputs) -> ModelInputs:
    """The inputs with all tensors on the meta device."""
    given = arguments_of(example)
    if any(isinstance(leaf, Tensor) and leaf.is_nested for leaf in pytree.tree_leaves(given)):
        raise TraceError("example_inputs hold a nested tensor, which fxgrow does not follow; give a padded one")
    try:
        args, kwargs = pytree.tree_map_only(Tensor, lambda t: t.detach().to("meta"), given)
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        raise TraceError(f"example_inputs hold a tensor that fxgrow does not follow: {in_words(error)}") from error
    guessed = isinstance(example, ModelInputs) and example.guessed
    return ModelInputs(args, kwargs, guessed)
