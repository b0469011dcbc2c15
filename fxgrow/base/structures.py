"""The tensors and plain values in nested structures of any kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
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
    if hasattr(value, "__dict__"):
        return [(f".{name}", entry) for name, entry in vars(value).items()]
    slots = getattr(type(value), "__slots__", ())
    return [(f".{name}", getattr(value, name, None)) for name in ((slots,) if isinstance(slots, str) else slots)]


def in_one_order(entries: AbstractSet[Any]) -> list[Any]:
    """What a set holds, texts and numbers first, in an order that is the same in all processes."""
    plain = [entry for entry in entries if isinstance(entry, PLAIN)]
    others = [entry for entry in entries if not isinstance(entry, PLAIN)]
    return sorted(plain, key=lambda entry: (type(entry).__name__, repr(entry))) + others
