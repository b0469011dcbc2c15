"""The wording of error messages."""

from __future__ import annotations

import torch


def a_type(value: object) -> str:
    """The type of a value with its article: "an int", "a Tensor"."""
    return with_article(type(value).__name__)


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype without its package: "float32"."""
    return str(dtype).removeprefix("torch.")


def with_article(name: str) -> str:
    """A noun with its article."""
    return f"{'an' if name[0] in 'aeiouAEIO' else 'a'} {name}"
