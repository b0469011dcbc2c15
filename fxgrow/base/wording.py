"""The wording of error messages."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def a_type(value: object) -> str:
    """The type of a value with its article: "an int", "a Tensor"."""
    return with_article(type(value).__name__)


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype without its package: "float32"."""
    return str(dtype).removeprefix("torch.")


def first_of(names: Sequence[str], most: int, between: str = ", ") -> str:
    """The first of some names, and how many more there are: "a, b and 3 more"."""
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    if between == ", ":
        return " ".join([between.join(names[:most]), *more])
    return between.join([*names[:most], *more])


def with_article(name: str) -> str:
    """A noun with its article."""
    return f"{'an' if name[0] in 'aeiouAEIO' else 'a'} {name}"
