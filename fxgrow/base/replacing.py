"""Putting something else in the place of attributes of classes and modules for a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .torch_private import settle

Target = tuple[Any, str, Any]  # owner, name, what is there for the time
_ABSENT: Any = object()  # what the owner has only from its base classes, or not at all


@contextmanager
def replaced(targets: Iterable[Target]) -> Iterator[None]:
    """A context in which these attributes are other ones; each owner then has its own again, or none of its own.

    A module that is imported meanwhile may keep what it finds (`from torch import arange`). It then has the right ones.
    """
    settle()
    targets = list(targets)
    before = [(owner, name, vars(owner).get(name, _ABSENT)) for owner, name, _ in targets]
    known = list(sys.modules)
    try:
        for owner, name, new in targets:
            setattr(owner, name, new)
        yield
    finally:
        until_done(lambda: _restore(before))
        if len(sys.modules) > len(known):
            imported = [sys.modules[name] for name in sys.modules.keys() - known]
            _put_right(imported, {id(new): getattr(owner, name, new) for owner, name, new in targets})


def until_done(step: Callable[[], None]) -> None:
    """Take a step again that Ctrl-C has interrupted, which is raised at the end."""
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            step()
            break
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


def _restore(before: Iterable[Target]) -> None:
    for owner, name, old in before:
        if old is not _ABSENT:
            setattr(owner, name, old)
        elif name in vars(owner):
            delattr(owner, name)


def _put_right(modules: Iterable[Any], right: Mapping[int, Any]) -> None:
    """Let modules, and classes that were made in them, have the right objects where they have replacements."""
    for module in modules:
        held = list(getattr(module, "__dict__", {}).values())
        made = [one for one in held if isinstance(one, type) and one.__module__ == getattr(module, "__name__", None)]
        for owner in (module, *made):
            for name, value in list(getattr(owner, "__dict__", {}).items()):
                if id(value) in right:
                    setattr(owner, name, right[id(value)])
