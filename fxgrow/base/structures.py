"""The tensors and plain values in nested structures of any kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from torch import Tensor

ArgumentPath = tuple[int | str, ...]  # a position in (args, kwargs) of a call: ("args", 1) or ("kwargs", "shape", 0)


def leaf_tensors(structure: Any) -> list[Tensor]:
    """All tensors in a structure of sequences, mappings, dataclasses and plain objects, in order."""
    return [leaf for leaf in _leaves(structure) if isinstance(leaf, Tensor)]


def plain_leaves(structure: Any) -> list[Any]:
    """All numbers, strings and booleans in a structure, in order."""
    return [leaf for leaf in _leaves(structure) if not isinstance(leaf, Tensor)]


def _leaves(structure: Any) -> list[Any]:
    leaves: list[Any] = []
    pending, seen = [structure], set()
    while pending:
        value = pending.pop(0)
        if isinstance(value, Tensor | str | bytes | int | float | bool):
            leaves.append(value)
        elif value is None or id(value) in seen:
            continue
        else:
            seen.add(id(value))
            if isinstance(value, Mapping):
                pending[:0] = list(value.values())
            elif isinstance(value, Sequence | AbstractSet):
                pending[:0] = list(value)
            elif hasattr(value, "__dict__"):
                pending[:0] = list(vars(value).values())
            elif hasattr(type(value), "__slots__"):
                pending[:0] = [getattr(value, name, None) for name in type(value).__slots__]
    return leaves
