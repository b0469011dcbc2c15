"""What stands in a structure of any kind: the tensors in it, and the plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from torch import Tensor

ArgumentPath = tuple[int | str, ...]  # where in (args, kwargs) of a call: ("args", 1) or ("kwargs", "shape", 0)


def leaf_tensors(structure: Any) -> list[Tensor]:
    """Every tensor in a result of any structure: sequences, mappings, dataclasses, plain objects."""
    return [leaf for leaf in _leaves(structure) if isinstance(leaf, Tensor)]


def plain_leaves(structure: Any) -> list[Any]:
    """Every number, string or truth value in it."""
    return [leaf for leaf in _leaves(structure) if not isinstance(leaf, Tensor)]


def _leaves(structure: Any) -> list[Any]:
    found: list[Any] = []
    pending, seen = [structure], set()
    while pending:
        value = pending.pop(0)
        if isinstance(value, Tensor | str | bytes | int | float | bool):
            found.append(value)
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
    return found
