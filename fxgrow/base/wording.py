"""The wording of error messages."""

from __future__ import annotations


def a_type(value: object) -> str:
    """The type of a value with its article: "an int", "a Tensor"."""
    return with_article(type(value).__name__)


def with_article(name: str) -> str:
    """A noun with its article."""
    return f"{'an' if name[0] in 'aeiouAEIO' else 'a'} {name}"
