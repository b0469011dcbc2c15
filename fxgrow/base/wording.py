"""The wording of error messages."""

from __future__ import annotations


def a_type(value: object) -> str:
    """The type of a value with its article: "an int", "a Tensor"."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIO' else 'a'} {name}"
