"""Where an optimizer holds parameters: growth moves its groups and its state, and all else would stay the teacher's."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import BuiltinMethodType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any
from weakref import ReferenceType

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..base.structures import PLAIN
from ..errors import GrowError
from ..model.supported import HARMLESS
from .zero import local_part

_MOST_WRAPPERS = 8
_DEPTH = 16  # a module is four levels: its attributes, its children, a child, its parameters


def layers_of(optimizer: object) -> list[Any]:
    """A framework's wrapper, what it keeps as `optimizer`, and so on; the optimizer comes last."""
    layers: list[Any] = [optimizer]
    while isinstance(getattr(layers[-1], "optimizer", None), Optimizer) and len(layers) <= _MOST_WRAPPERS:
        layers.append(layers[-1].optimizer)
    return layers


def check_holdings(layers: Sequence[Any], names: Mapping[int, str]) -> None:
    """Whether an optimizer and its wrappers hold parameters, or a tensor for each, only in its groups and its state.

    Args:
        layers: As `layers_of` gives them.
        names: The names of the teacher's parameters, by their `id`.

    Raises:
        GrowError: One has a list, a dict or an optimizer of its own, which would go on holding the teacher's.
    """
    inner = layers[-1]
    groups = inner.param_groups
    shapes = Counter(one.shape for group in groups for one in group["params"] if id(one) in names)
    followed = {id(one) for one in [*layers, groups, inner.state, *groups, *(group["params"] for group in groups)]}
    for group in groups:
        _check(inner, "option", group, followed, names, shapes)
    for layer in layers if local_part(inner) is None else layers[:-1]:
        table = vars(layer) if hasattr(layer, "__dict__") else {}
        _check(layer, "attribute", table, followed, names, shapes, objects=layer is inner)


def _check(
    holder: Any,
    what: str,
    table: Mapping[str, Any],
    followed: Collection[int],
    names: Mapping[int, str],
    shapes: Counter[torch.Size],
    *,
    objects: bool = False,
) -> None:
    for key, value in table.items():
        seen = set(followed)
        held = next((names[id(one)] for one in _inside(value, seen, objects=objects) if id(one) in names), None)
        if held is not None:
            raise GrowError(
                f"the {type(holder).__name__} holds {held!r} in its {what} {key!r}, outside its groups, where it "
                "would stay the teacher's; make a new optimizer for the student (a hook that holds it can be taken off "
                "and registered anew after the growth)"
            )
        tensors = Counter(one.shape for one in _inside(value, set(followed)) if isinstance(one, Tensor))
        if tensors >= shapes:  # those in a hook may be followed by the user's code
            raise GrowError(
                f"the {type(holder).__name__} holds a tensor for each parameter in its {what} {key!r}, which would "
                "keep the teacher's shape; grow with the optimizer in it, if there is one, and make a new one around it"
            )


def _inside(value: Any, seen: set[int], depth: int = _DEPTH, *, objects: bool = False) -> Iterator[Any]:
    """A value and what is in it, each thing once; what is in the attributes of objects, too, where that is asked for.

    A framework's wrapper holds the framework, and that the model; an optimizer has no reason to.
    """
    attributes = getattr(value, "__dict__", None)
    if id(value) in seen or HARMLESS in (attributes or ()):
        return
    seen.add(id(value))
    yield value
    entries: list[Any] = []
    if isinstance(value, Optimizer):
        entries = [value.param_groups, value.state]
    elif isinstance(value, Mapping):
        entries = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset | deque):
        entries = list(value)
    elif objects and not isinstance(value, Tensor | type | ModuleType):
        entries = _held_by(value)
    for entry in entries if depth else ():
        if not isinstance(entry, PLAIN):
            yield from _inside(entry, seen, depth - 1, objects=objects)


def _held_by(value: Any) -> list[Any]:
    """What an object holds: its attributes; a method its object; a function what it closes over and its defaults."""
    if isinstance(value, MethodType | BuiltinMethodType):
        return [getattr(value, "__func__", None), value.__self__]
    if isinstance(value, ReferenceType):
        return [value()]
    held = [getattr(value, "__dict__", None), *_slots(value)]
    if isinstance(value, FunctionType):
        held += [value.__defaults__, value.__kwdefaults__, *_cells(value)]
    elif isinstance(value, partial):
        held += [value.func, value.args, value.keywords]
    return held


def _cells(function: FunctionType) -> Iterator[Any]:
    """What a function closes over; a variable without a value is left out."""
    for cell in function.__closure__ or ():
        with suppress(ValueError):
            yield cell.cell_contents


def _slots(value: Any) -> Iterator[Any]:
    """What is in the slots of an object."""
    for kind in type(value).__mro__:
        members = [member for member in vars(kind).values() if isinstance(member, MemberDescriptorType)]
        for member in members if "__slots__" in vars(kind) else ():
            with suppress(AttributeError):
                yield member.__get__(value)
