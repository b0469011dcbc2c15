"""Patterns: which parameters a name or a glob means."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from ..base.wording import first_of
from ..errors import PlanError

EVERYTHING = "*"
SHOWN = 8  # layers that a message lists where no name is close
LONGEST = 1000  # characters of a pattern: the time that a glob takes may grow with their square


def is_pattern(value: object) -> bool:
    """Whether a value is a name or a glob."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST


def is_literal(pattern: str) -> bool:
    """Whether a pattern is a plain name."""
    return not any(c in pattern for c in "*?[")


def match(pattern: str, tensors: Iterable[str], modules: Iterable[str] = (), others: Iterable[str] = ()) -> list[str]:
    """The parameters that a pattern means: by their own name, their module's, or that of a container.

    The name of a container means all in it, also where it has parameters of its own.

    Args:
        pattern: A name or a glob.
        tensors: The names of all parameters and buffers.
        modules: The paths of all modules in their order, for the message.
        others: Other names that could be meant, for the message.

    Raises:
        PlanError: None; close names are given.
    """
    names = list(tensors)
    found = [t for t in names if _matches(t, pattern) or _matches(module_of(t), pattern)]
    if not found or is_literal(pattern):
        found = [t for t in names if t in found or any(_matches(path, pattern) for path in _containers(t))]
    if not found:
        paths = [path for path in modules if path]
        bare = next((i for i, path in enumerate(paths) if fnmatchcase(path, pattern)), None)
        if bare is not None:
            raise PlanError(f"{pattern!r} has no parameters, so no width of its own{_around(paths, bare, names)}")
        known = dict.fromkeys([*(path for t in names for path in (*_containers(t), t)), *others])
        close = difflib.get_close_matches(pattern, known, 3, 0.5)
        layers = list(dict.fromkeys(map(module_of, filter(module_of, names))))
        told = f"close: {', '.join(close)}" if close else f"the layers are {first_of(layers, SHOWN)}"
        raise PlanError(f"{pattern!r} matches no layer or parameter; {told}")
    return found


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def _around(paths: Sequence[str], at: int, tensors: Iterable[str]) -> str:
    """The layers before and after a module, in words."""
    layers = {module_of(t) for t in tensors}
    before = next((path for path in reversed(paths[:at]) if path in layers), None)
    after = next((path for path in paths[at:] if path in layers), None)
    around = [path for path in (before, after) if path is not None]
    return f"; the layers around it: {', '.join(around)}" if around else ""


def _containers(tensor: str) -> list[str]:
    steps = tensor.split(".")
    return [".".join(steps[:n]) for n in range(1, len(steps))]


def module_of(tensor: str) -> str:
    """The module that a parameter belongs to."""
    return tensor.rpartition(".")[0]
