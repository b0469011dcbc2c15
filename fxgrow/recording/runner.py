"""Running graphs and modules while a tape is told which node and which module runs."""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules import module as torch_module
from torch.utils.hooks import RemovableHandle

from ..base.replacing import Target, replaced
from ..base.torch_private import always_called_hooks, hooks_with_kwargs
from ..model.generated_code import value_at
from ..model.layer_kinds import is_layer
from ..model.opaque import OPAQUE_MODEL
from ..model.provenance import describe, module_path
from ..model.walk import Paths, named_modules, submodule
from .answers import PLACES, told
from .tape import Tape

# FX makes a progress bar that it does not show, and tqdm starts a thread that stays for the first one of a process.
_BAR: Any = vars(torch.hub)["tqdm"]
_NO_MONITOR: list[Target] = [(_BAR, "monitor_interval", 0)] if hasattr(_BAR, "monitor_interval") else []


class Runner(fx.Interpreter):
    """Runs a graph on arguments by name, and tells a tape which node runs.

    Args:
        root: The tree that the graph runs on.
        graph: The graph.
        tape: Is told of its nodes.
        frees: Whether to drop values that no later node takes. A tape that records keeps them anyway.
    """

    def __init__(self, root: nn.Module, graph: fx.Graph, tape: Tape, *, frees: bool = False) -> None:
        super().__init__(root, garbage_collect_values=frees, graph=graph)
        self.tape = tape
        self._arguments: Mapping[str, Any] = {}

    def run_on(self, arguments: Mapping[str, Any], paths: Paths) -> Any:
        """The graph's result for arguments, on a tree of these modules."""
        self._arguments = arguments
        with watched(self.module, self.tape, paths), replaced(_NO_MONITOR):
            return self.run()

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        return self._arguments[str(target).lstrip("*")]

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> Any:
        return thawed(super().fetch_args_kwargs_from_env(n))

    def run_node(self, n: fx.Node) -> Any:
        self.tape.site, self.tape.inside, self.tape.module, self.tape.called = describe(n), None, module_path(n), False
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        return getattr(self, n.op)(n.target, args, kwargs)  # without what FX does beside it for tracebacks

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if target is getattr and args[1] in PLACES and isinstance(args[0], Tensor):
            return told(args[0], args[1])
        return super().call_function(target, args, kwargs)

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        return value_at(self.module, target)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        return submodule(self.module, target)(*args, **kwargs)


def thawed(arguments: Any) -> Any:
    """The same arguments with mutable lists, dicts and plain tuples, as the code that FX generates passes them."""
    if isinstance(arguments, list):
        return [thawed(entry) for entry in arguments]
    if type(arguments) is tuple:
        return tuple([thawed(entry) for entry in arguments])
    if isinstance(arguments, dict) and type(arguments).__module__.startswith("torch.fx"):
        return {key: thawed(entry) for key, entry in arguments.items()}
    return arguments


@contextmanager
def watched(root: nn.Module, tape: Tape, modules: Paths) -> Iterator[None]:
    """A context in which the tape knows which module of the tree runs."""
    whole = root.__dict__.get(OPAQUE_MODEL)
    paths = {id(module): name for name, module in (modules if whole is None else named_modules(whole))}
    outer = sys.exc_info()[1]
    stack: list[tuple[str, str | None, str, bool]] = []

    def enter(module: nn.Module, args: Any) -> None:
        stack.append((tape.site, tape.inside, tape.module, tape.called))
        path = paths.get(id(module))
        if path is not None:
            tape.module, tape.called = path, True
            tape.site, tape.inside = (path, None) if is_layer(module) else (path or "forward", path)
            tape.entered(module, args)

    def leave(module: nn.Module, args: Any, *more: Any) -> None:
        *named, result = more  # torch leaves the keywords out where the module failed
        before = stack.pop()
        if sys.exc_info()[1] is not outer:  # it failed: it returns nothing, and the place is what counts
            return
        if id(module) in paths:
            tape.left(module, _by_position(module, args, named[0] if named else {}), result)
        tape.site, tape.inside, tape.module, tape.called = before

    handles: list[RemovableHandle] = []
    try:
        handles.append(torch_module.register_module_forward_pre_hook(enter))
        handles.append(torch_module.register_module_forward_hook(leave, with_kwargs=True, always_call=True))
        yield
    finally:
        for handle in handles:
            handle.remove()
            for table in (hooks_with_kwargs, always_called_hooks):  # which `remove` may leave an entry in
                table.pop(handle.id, None)
        tape.release()


def _by_position(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments of a call up to the first that is left out."""
    if not kwargs:
        return args
    names = list(inspect.signature(module.forward).parameters)[len(args) :]
    return (*args, *[kwargs[name] for name in itertools.takewhile(kwargs.__contains__, names)])
