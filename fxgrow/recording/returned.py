"""What a run leaves behind, described so that two runs are compared value by value.

The calls of two runs can be the same and their results not: code may compute both `y` and `z` and return one of them,
depending on a size. So a result is described by its structure, its keys in order, its plain values, and for each
tensor by the value of the tape that it holds. A constant has no such value; it is described by its shape and content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from ..base.structures import PLAIN, children_of
from ..errors import TraceError
from ..model.example_inputs import brief
from .tape import Tape

LONG = 60  # characters of an array in a message
DIGITS = 16  # of the digest of a longer one

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Returned:
    """What one run left behind.

    Attributes:
        entries: Every place of the result with what is there, in order: containers by their type, tensors by their
            value, all else by itself.
        written: The parameters and buffers that hold another value than before, and which; those that were frozen.
    """

    entries: tuple[tuple[Path, str], ...]
    written: tuple[tuple[str, str], ...] = ()

    def difference(self, other: Returned) -> tuple[str, Path] | None:
        """Where another run left something else, in words and as a place in the result; None: nowhere."""
        for (path, ours), (their_path, theirs) in zip(self.entries, other.entries, strict=False):
            if (path, ours) != (their_path, theirs):
                at = "".join(path) if path == their_path else f"{''.join(path)} in place of {''.join(their_path)}"
                return f"the result{at} is {ours} where the teacher's is {theirs}", path
        if len(self.entries) != len(other.entries):
            return f"the result has {len(self.entries)} entries where the teacher's has {len(other.entries)}", ()
        held, expected = dict(self.written), dict(other.written)
        for name in (*held, *expected):
            if held.get(name) != expected.get(name):
                return f"{name} is left with another value than the teacher's", ()
        return None


def describe(
    tape: Tape, result: Any, before: Mapping[str, Tensor], after: Mapping[str, Tensor], trained: Mapping[str, bool]
) -> Returned:
    """What a run left behind.

    Args:
        tape: That recorded it.
        result: What it returned.
        before: The parameters and buffers by name, as they were found.
        after: The same after the run, which may have assigned others.
        trained: Those that the run made trainable or froze, and which.
    """
    kept = [*before.items(), *((name, tensor) for name, tensor in after.items() if tensor is not before.get(name))]
    holds = [(name, _tensor(tape, tensor)) for name, tensor in kept]
    written = [(name, what) for name, what in holds if what != f"value {name!r}"]
    written += [(f"{name}.requires_grad", str(flag)) for name, flag in trained.items()]
    return Returned(tuple(_entries(tape, result)), tuple(written))


def plain_values(result: Any) -> tuple[str, ...]:
    """The numbers, texts, dtypes and keys in a result, in order."""
    plain: list[str] = []
    pending, seen = [result], set()
    while pending:
        value = pending.pop()
        if isinstance(value, (*PLAIN, torch.dtype)):
            plain.append(repr(value))
        elif id(value) not in seen and not isinstance(value, Tensor):
            seen.add(id(value))
            plain += map(repr, value) if isinstance(value, Mapping) else ()
            pending += [child for _, child in reversed(held_in(value))]
    return tuple(plain)


def _entries(tape: Tape, result: Any) -> Iterator[tuple[Path, str]]:
    pending: list[tuple[Path, Any]] = [((), result)]
    seen: set[int] = set()
    while pending:
        path, value = pending.pop()
        if isinstance(value, Tensor):
            yield path, _tensor(tape, value)
            continue
        if isinstance(value, PLAIN):
            yield path, repr(value)
            continue
        yield path, _described(path, value) if id(value) not in seen else f"the same {_kind(value)} again"
        if id(value) not in seen:
            seen.add(id(value))
            pending += [((*path, step), child) for step, child in reversed(held_in(value))]


def _described(path: Path, value: Any) -> str:
    """What a value is, without what `held_in` finds in it.

    Raises:
        TraceError: It makes its entries later, so that they cannot be compared.
    """
    if isinstance(value, Iterator):
        raise TraceError(
            f"the result{''.join(path)} is a {type(value).__name__}, whose entries fxgrow cannot compare; return a "
            "list of them"
        )
    if isinstance(value, FunctionType):
        return f"a function {value.__qualname__} of {value.__code__.co_filename}:{value.__code__.co_firstlineno}"
    if _is_array_of_objects(value):
        return f"a {_kind(value)} of {value.shape}"
    if type(value).__module__ == "numpy" and hasattr(value, "tobytes"):
        entries = repr(value.tolist())
        if len(entries) >= LONG:  # by a digest that is the same in all processes: it goes into plans
            entries = f"{entries[:LONG]}... ({hashlib.sha256(entries.encode()).hexdigest()[:DIGITS]})"
        return f"a {_kind(value)} of {getattr(value, 'shape', ())} {value.dtype} with {entries}"
    named = isinstance(value, nn.Module) or held_in(value)
    if not named and vars(object)["__repr__"] is not getattr(type(value), "__repr__", None):  # a slice, a dtype, a date
        text = repr(value)
        return f"a {_kind(value)}" if " at 0x" in text else text
    return f"a {_kind(value)}"


def held_in(value: Any) -> list[tuple[str, Any]]:
    """What a value of a result holds: entries, attributes, and what a function has bound. A module is one value."""
    if isinstance(value, nn.Module):
        return []
    if isinstance(value, partial):
        return [("()", value.func), ("(args)", value.args), ("(kwargs)", value.keywords)]
    if isinstance(value, MethodType):
        return [("()", value.__func__), (".__self__", value.__self__)]
    if isinstance(value, FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        bound = [(f"({name})", cell.cell_contents) for name, cell in cells if cell != _EMPTY]
        return [*bound, ("(defaults)", value.__defaults__), ("(keyword defaults)", value.__kwdefaults__)]
    return children_of(value.tolist() if _is_array_of_objects(value) else value)


def _is_array_of_objects(value: Any) -> bool:
    return type(value).__module__ == "numpy" and str(getattr(value, "dtype", "")) == "object"


_EMPTY = CellType()


def _kind(value: Any) -> str:
    count = f" of {len(value)}" if isinstance(value, Mapping | Sequence | AbstractSet) else ""
    return f"{type(value).__qualname__}{count}"


def _tensor(tape: Tape, tensor: Tensor) -> str:
    key = tape.content(tensor)
    return f"{key} ({brief(tensor)})" if tape.constant(tensor) is not None else f"value {key!r}"
