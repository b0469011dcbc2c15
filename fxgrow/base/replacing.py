"""Putting something else in the place of attributes of classes and modules for a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

Target = tuple[Any, str, Any]  # owner, name, what is there for the time
_ABSENT = object()  # what the owner has only from its base classes, or not at all


@contextmanager
def replaced(targets: Iterable[Target]) -> Iterator[None]:
    """A context in which these attributes are other ones; each owner then has its own again, or none of its own."""
    targets = list(targets)
    before = [(owner, name, vars(owner).get(name, _ABSENT)) for owner, name, _ in targets]
    try:
        for owner, name, new in targets:
            setattr(owner, name, new)
        yield
    finally:
        for owner, name, old in before:
            if old is not _ABSENT:
                setattr(owner, name, old)
            elif name in vars(owner):
                delattr(owner, name)
