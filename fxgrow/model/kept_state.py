"""What modules keep in plain attributes, so that two runs of their code can be told apart by what the first one left.

A counter may be a number, an entry of a list in an object, or a variable of a closure.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from ..base.structures import own_attributes
from .walk import Paths, marks_of, submodule


def attributes_of(paths: Paths) -> dict[tuple[str, str], Any]:
    """What each module of a tree holds in plain attributes, by path and name; also in its class and on its tensors."""
    known: dict[int, Any] = {}
    found = {
        (path, key): value if _is_immutable(value) else content_of(value, known)
        for path, module in paths
        for key, value in vars(module).items()
        if key not in _TORCHS and not key.startswith("_fxgrow")
    }
    for path, module in paths:
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            for key, value in marks_of(tensor).items():
                found[path, f"{name}.{key}"] = content_of(value, known)
    for path, module in [(path, module) for path, module in paths if _is_theirs(type(module))]:
        found.update({(path, f"class {key}"): value for key, value in _of_class(type(module), known).items()})
    return found


def _is_immutable(value: Any) -> bool:
    kind = type(value)
    return kind in _IMMUTABLE or (kind is tuple and _IMMUTABLE.issuperset(map(type, value)))


def _is_theirs(kind: type) -> bool:
    return kind.__module__.partition(".")[0] not in _NOT_THEIRS


def _of_class(kind: type, known: dict[int, Any]) -> dict[str, Any]:
    """What a class of the user's holds in plain numbers and containers, which `forward` may count in."""
    if id(kind) not in known:
        own = [base for base in reversed(kind.__mro__) if _is_theirs(base)]
        held = {key: value for base in own for key, value in vars(base).items() if not key.startswith("__")}
        plain = {key: value for key, value in held.items() if isinstance(value, (*_NUMBERS, list, dict, deque))}
        known[id(kind)] = {key: content_of(value, known) for key, value in plain.items()}
    kept: dict[str, Any] = known[id(kind)]
    return kept


_TORCHS = vars(nn.Module()).keys()  # the attributes that every module has: its mode and its tables
_IMMUTABLE = {type(None), bool, int, float, str, torch.dtype, torch.device, torch.Size}
_NOT_THEIRS = ("torch", "builtins")  # packages whose objects and classes are tools, and no state of a model
_NUMBERS = (bool, int, float)
_MOST_BYTES = 1 << 20  # of an array that is compared
_DEPTH = 8  # how deep state is looked for in containers of containers


@dataclass(frozen=True, slots=True)
class Content:
    """What a container, a closure or an object holds, kept so that its entries stay themselves.

    An iterator is never what it was.
    """

    entries: tuple[Any, ...] | None


def content_of(value: Any, known: dict[int, Any], depth: int = _DEPTH) -> Any:
    """A value, or what it holds where that may change.

    Args:
        value: The value.
        known: By `id`: the contents so far.
        depth: How deep to go.
    """
    if _is_immutable(value) or isinstance(value, nn.Module | Tensor | type) or not depth:
        return value
    if id(value) in known:
        return known[id(value)]
    known[id(value)] = value  # it may hold itself
    held = held_by(value)
    if held is not None:
        if hasattr(type(value), "__next__"):
            known[id(value)] = Content(None)
        elif _IMMUTABLE.issuperset(map(type, held)):  # as those of a vocabulary, which may be long
            known[id(value)] = Content(tuple(held))
        else:
            known[id(value)] = Content(tuple([content_of(v, known, depth - 1) for v in held]))
    return known[id(value)]


def held_by(value: Any) -> Iterable[Any] | None:
    """What a value holds; None: nothing that may change."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | deque):
        return list(value)
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if cell != CellType()]
        return [*cells, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), *vars(value).values()]
    if isinstance(value, MethodType):
        return [value.__self__]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if hasattr(type(value), "__next__"):
        return ()
    if isinstance(value, bytearray):
        return [bytes(value)]
    if type(value).__module__ in ("array", "numpy") and hasattr(value, "tobytes"):
        return [value.tobytes()] if getattr(value, "nbytes", 0) < _MOST_BYTES else [value]
    if not _is_theirs(type(value)):
        return None
    own = own_attributes(value)
    return [*own.keys(), *own.values()] if own else None


def is_same(before: Any, after: Any) -> bool:
    """Whether what was found before a run is what was found after it."""
    if not isinstance(before, Content) or not isinstance(after, Content):
        return before is after or (type(before) is bytes and type(after) is bytes and before == after)
    if before.entries is None or after.entries is None:
        return False
    if len(before.entries) != len(after.entries):
        return False
    return all(map(operator.is_, before.entries, after.entries)) or all(map(is_same, before.entries, after.entries))


def counts(first: Any, second: Any) -> bool:
    """Whether a number or a length is another one after each of two runs: what it decides may change in the next."""
    if isinstance(first, Content) and isinstance(second, Content):
        ours, theirs = first.entries or (), second.entries or ()
        return len(ours) != len(theirs) or any(map(counts, ours, theirs))
    kinds = (*_NUMBERS, bytes)
    return isinstance(first, kinds) and isinstance(second, kinds) and first != second


def who_keeps(root: nn.Module, path: str, key: str) -> str:
    """The module whose code keeps state in an attribute: the one that has it, where its own code names it, or the root.

    Args:
        root: The model.
        path: The module that has the attribute.
        key: Its name.
    """
    kind = type(submodule(root, path))
    own = [value for base in kind.__mro__ for value in vars(base).values()]
    names = {name for value in own if isinstance(value, FunctionType) for name in value.__code__.co_names}
    return path if key.removeprefix("class ") in names else ""


def all_held(paths: Paths) -> Iterator[Any]:
    """Everything that the attributes of modules hold, at any depth: containers, objects, tensors, arrays."""
    pending = [(value, _DEPTH) for _, module in paths for value in own_values(module)]
    seen: set[int] = set()
    while pending:
        value, depth = pending.pop()
        if type(value) in _IMMUTABLE or id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        if depth and not isinstance(value, nn.Module | Tensor | type):
            pending += [(entry, depth - 1) for entry in held_by(value) or ()]


def own_values(module: nn.Module) -> list[Any]:
    """The values of the attributes of a module that torch.nn does not know."""
    return [value for key, value in vars(module).items() if key not in _TORCHS]
