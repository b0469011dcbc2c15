"""Analyses that reach the same place in several ways, and look at it once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

from ..errors import Unfit

Key = TypeVar("Key", bound=Hashable)
T = TypeVar("T")


def found_once(known: dict[Key, T | Unfit], key: Key, find: Callable[[], T]) -> T:
    """`find()`, computed once per key; a reason for failure is kept, too, and raised again."""
    if key not in known:
        try:
            known[key] = find()
        except Unfit as reason:
            known[key] = reason
    result = known[key]
    if isinstance(result, Unfit):
        raise result
    return result
