"""Numbers that modules hold in plain objects, lists and dicts: `config.hidden_sizes.2`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def place_of(table: Mapping[str, Any], way: str) -> tuple[Any, Any]:
    """What holds the entry that a dotted way leads to, and the entry's key in it.

    Args:
        table: The attributes that the way begins in.
        way: Names of attributes, keys of dicts, and numbers in lists.

    Returns:
        A table of attributes, a dict or a list, and the key, a number in a list. The entry itself may be missing.

    Raises:
        LookupError, TypeError, ValueError: The way does not lead there.
    """
    *steps, own = way.split(".")
    held: Any = table
    for step in steps:
        inner = held[_key(held, step)]
        held = inner if isinstance(inner, dict | list) else vars(inner)
    return held, _key(held, own)


def _key(held: Any, step: str) -> Any:
    return int(step) if isinstance(held, list) else step
