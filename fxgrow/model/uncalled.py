"""A warning where a user puts a hook or a wrapper on a module that a graph does not call: it would never run.

A graph calls layers, and not the blocks that hold them: a hook on `layer1.0`, a checkpoint wrapper around it or a shard
of it is without effect, and nothing else would say so. It is looked for once, at the first forward.
"""

from __future__ import annotations

import functools
import warnings
import weakref
from collections.abc import Callable, Container, Iterable
from typing import Any

import torch
from torch import fx, nn

from .supported import HARMLESS
from .walk import named_modules

_TABLES = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_NAMED = 3  # paths in the message


class Known:
    """The modules of a tree and their hooks, as they are when a student is made."""

    def __init__(self, root: nn.Module) -> None:
        self._known = {path: (weakref.ref(module), _hooks(module)) for path, module in named_modules(root)}

    def without_effect(self, root: nn.Module, graphs: Iterable[fx.Graph]) -> list[str]:
        """The paths of modules that have new hooks, or are others than before, and that no graph calls."""
        called = {str(node.target) for graph in graphs for node in graph.nodes if node.op == "call_module"}
        found: dict[str, None] = {}
        for path, module in named_modules(root):
            before, hooks = self._known.get(path, (None, frozenset()))
            changed = before is not None and (before() is not module or _hooks(module) - hooks)
            if path and changed and not _inside(path, called) and not _inside(path, found):
                found[path] = None
        return list(found)


def _hooks(module: nn.Module) -> frozenset[int]:
    tables = [vars(module).get(table) or {} for table in _TABLES]
    return frozenset(key for table in tables for key, hook in table.items() if not hasattr(hook, HARMLESS))


def _inside(path: str, others: Container[str]) -> bool:
    """Whether a path is one of others, or below one: code inside a called module runs its own children."""
    steps = path.split(".")
    return any(".".join(steps[:depth]) in others for depth in range(1, len(steps) + 1))


def warn_once(known: Known, forward: Callable[..., Any]) -> Callable[..., Any]:
    """A `forward` that looks at its first call. A compiler sees only the one inside."""
    looked: list[bool] = []

    @functools.wraps(forward)
    def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_compiling() and not looked:
            looked.append(True)
            _warn(known.without_effect(self, self.graphs.values()), type(self).__name__)
        return forward(self, *args, **kwargs)

    return checked


def _warn(paths: list[str], name: str) -> None:
    if paths:
        shown = ", ".join(paths[:_NAMED]) + (", ..." if len(paths) > _NAMED else "")
        warnings.warn(
            f"{shown} got a hook or a wrapper, and the graph of {name} calls the layers inside and not "
            f"{'this module' if len(paths) == 1 else 'these modules'}: it has no effect; a student of "
            'output="module" calls its blocks',
            stacklevel=3,
        )
