"""Functions that hold what they close over: hooks, lambdas and patched forwards, rebound to a copy of the model.

`copy.deepcopy` takes a function as it is. A hook such as ``lambda m, i, o: o * net.gain`` on a copy would then go on to
read the model's own `gain`, and to write into the model's own dictionaries. A rebound function is the same code with
new cells and defaults, which hold the copy's modules, tensors and containers.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from types import BuiltinFunctionType, CellType, FunctionType, ModuleType
from typing import Any

from torch import Tensor, nn

from .walk import modules

Copy = Callable[[Any, dict[int, Any]], Any]  # (value, memo) -> its copy


def rebound(function: FunctionType, memo: dict[int, Any], copied: Copy) -> FunctionType:
    """A function with copies of what it closes over, of its defaults and attributes; itself where it has none.

    Args:
        function: The function.
        memo: As of `copy.deepcopy`; cells are in it, so that two functions with a common variable keep it in common.
        copied: Copies one value.
    """
    known = memo.get(id(function))
    if known is not None:
        return known
    cells, defaults, named = function.__closure__, function.__defaults__, function.__kwdefaults__
    if not cells and not any(map(_may_change, (defaults, named, vars(function)))):
        return function
    twins = [memo.get(id(cell)) or CellType() for cell in cells or ()]
    twin = FunctionType(function.__code__, function.__globals__, function.__name__, None, tuple(twins))
    memo[id(function)] = twin  # before its cells are filled: one of them may hold the function
    for cell, fresh in zip(cells or (), twins, strict=True):
        if id(cell) in memo:
            continue
        memo[id(cell)] = fresh
        try:
            content = cell.cell_contents
        except ValueError:  # a variable that has no value yet
            continue
        fresh.cell_contents = _content(content, memo, copied)
    twin.__defaults__ = _content(defaults, memo, copied)
    twin.__kwdefaults__ = _content(named, memo, copied)
    twin.__dict__.update({name: _content(value, memo, copied) for name, value in vars(function).items()})
    twin.__qualname__, twin.__module__, twin.__doc__ = function.__qualname__, function.__module__, function.__doc__
    return twin


def _may_change(defaults: Any) -> bool:
    return any(not isinstance(v, _FIXED) for v in (defaults.values() if isinstance(defaults, dict) else defaults or ()))


_FIXED = (bool, int, float, complex, str, bytes, type(None), type, ModuleType, BuiltinFunctionType)


def _content(value: Any, memo: dict[int, Any], copied: Copy) -> Any:
    """A copy of what a function holds; the value itself where it cannot be copied, or is a tool of torch."""
    if type(value) is not int and (isinstance(value, _FIXED) or (id(value) not in memo and _is_a_tool(value))):
        return value
    if isinstance(value, nn.Module):  # one outside the tree: its tensors stay shared, its modules and containers not
        own = [t for m in modules(value) for t in (*m._parameters.values(), *m._buffers.values()) if t is not None]
        memo.update({id(t): t for t in own if id(t) not in memo})
    try:
        return copied(value, memo)
    except (TypeError, RuntimeError, ValueError, AttributeError, copy.Error):
        return value


def _is_a_tool(value: Any) -> bool:
    """Whether a value is an object of torch that is no tensor and no module: an optimizer, a loader, a stream."""
    return type(value).__module__.partition(".")[0] == "torch" and not isinstance(value, Tensor | nn.Module)


WEAK = (weakref.ReferenceType, weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet)


def rebound_weakly(value: Any, memo: dict[int, Any]) -> Any:
    """A weak reference, or a container of them, to the copies of what it refers to.

    Args:
        value: It; its type is one of `WEAK`.
        memo: As of `copy.deepcopy`. What is not in it is not copied.
    """

    def twin(target: Any) -> Any:
        return memo.get(id(target), target)

    if isinstance(value, weakref.WeakSet):
        return weakref.WeakSet(map(twin, value))
    if isinstance(value, weakref.ReferenceType):
        target = value()
        return value if twin(target) is target else weakref.ref(twin(target))
    return type(value)([(twin(key), twin(entry)) for key, entry in value.items()])
