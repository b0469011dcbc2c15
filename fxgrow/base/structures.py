"""The tensors and plain values in nested structures of any kind."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from types import MemberDescriptorType
from typing import Any

from torch import Tensor

from .torch_private import pytree

PLAIN = (str, bytes, int, float, complex, type(None))  # what holds nothing else; bool is an int

ArgumentPath = tuple[int | str, ...]  # a position in (args, kwargs) of a call: ("args", 1) or ("kwargs", "shape", 0)


def has_values(structure: Any) -> bool:
    """Whether no tensor in a structure is on the meta device, where an operator may read memory of no meaning."""
    return not any(tensor.is_meta for tensor in leaf_tensors(structure))


def leaf_tensors(structure: Any) -> list[Tensor]:
    """All tensors in a structure of sequences, mappings, dataclasses and plain objects, in order."""
    tensors: list[Tensor] = []
    pending, seen = [structure], set()
    while pending:
        value = pending.pop()
        if isinstance(value, Tensor):
            tensors.append(value)
        elif id(value) not in seen:
            seen.add(id(value))
            pending += [child for _, child in reversed(children_of(value))]
    return tensors


def mapped(function: Callable[[Any], Any], structure: Any) -> Any:
    """A structure with other leaves; where its class does not take these (PackedSequence), a tuple of them."""
    leaves, form = pytree.tree_flatten(structure)
    new = [function(leaf) for leaf in leaves]
    try:
        return pytree.tree_unflatten(new, form)
    except Exception:  # noqa: BLE001 - the class of a user may raise anything
        return tuple(new)


def children_of(value: Any) -> list[tuple[str, Any]]:
    """What a container or plain object holds, in order, each with how one reaches it: ``[0]``, ``['a']``, ``.a``.

    Of a tensor, a text, a number or None: nothing.
    """
    if value is None or isinstance(value, Tensor | str | bytes | int | float | bool):
        return []
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", entry) for key, entry in value.items()]
    if isinstance(value, Sequence | AbstractSet):
        entries = value if isinstance(value, Sequence) else in_one_order(value)
        return [(f"[{i}]", entry) for i, entry in enumerate(entries)]
    return [(f".{name}", entry) for name, entry in own_attributes(value).items()]


def own_attributes(value: Any) -> dict[str, Any]:
    """What an object has in attributes: in its `__dict__`, and in the slots of its class and of those before it."""
    held = dict(getattr(value, "__dict__", {}))
    for kind in reversed(type(value).__mro__):
        slots = vars(kind) if "__slots__" in vars(kind) else {}
        held |= {name: _in_slot(one, value) for name, one in slots.items() if isinstance(one, MemberDescriptorType)}
    return held


def _in_slot(slot: MemberDescriptorType, value: Any) -> Any:
    try:
        return slot.__get__(value)
    except AttributeError:  # nothing is in it
        return None


def keeps_fields(kind: Any) -> bool:
    """Whether this is a dataclass whose objects are made without code of the user's, which may mix what it is given."""
    if not isinstance(kind, type) or not is_dataclass(kind) or type(kind).__call__ is not type.__call__:
        return False
    made = getattr(kind.__init__, "__code__", None)
    if made is None or made.co_filename != "<string>":  # not what `dataclass` writes
        return False
    if hasattr(kind, "__post_init__") or kind.__new__ is not object.__new__:
        return False
    frozen = kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    held = [inspect.getattr_static(kind, field.name, None) for field in fields(kind)]
    plain = all(isinstance(one, MemberDescriptorType) or not hasattr(type(one), "__set__") for one in held)
    return plain and (frozen or kind.__setattr__ is object.__setattr__)


def in_one_order(entries: AbstractSet[Any]) -> list[Any]:
    """What a set holds, texts and numbers first, in an order that is the same in all processes."""
    plain = [entry for entry in entries if isinstance(entry, PLAIN)]
    others = [entry for entry in entries if not isinstance(entry, PLAIN)]
    return sorted(plain, key=lambda entry: (type(entry).__name__, repr(entry))) + others
