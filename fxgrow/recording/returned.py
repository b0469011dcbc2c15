"""What a run leaves behind, described so that two runs are compared value by value.

The calls of two runs can be the same and their results not: code may compute both `y` and `z` and return one of them,
depending on a size. So a result is described by its structure, its keys in order, its plain values, and for each
tensor by the value of the tape that it holds. A constant has no such value; it is described by its shape and content.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..base.structures import children_of
from ..model.example_inputs import brief
from .tape import Tape

PLAIN = (str, bytes, int, float, complex, bool, type(None))

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Returned:
    """What one run left behind.

    Attributes:
        entries: Every place of the result with what is there, in order: containers by their type, tensors by their
            value, all else by itself.
        written: The parameters and buffers that hold another value than before, and which.
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
        for name in dict.fromkeys(name for name, _ in (*self.written, *other.written)):
            if dict(self.written).get(name) != dict(other.written).get(name):
                return f"{name} is left with another value than the teacher's", ()
        return None


def describe(tape: Tape, result: Any, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Returned:
    """What a run left behind.

    Args:
        tape: That recorded it.
        result: What it returned.
        before: The parameters and buffers by name, as they were found.
        after: The same after the run, which may have assigned others.
    """
    kept = [*before.items(), *((name, tensor) for name, tensor in after.items() if tensor is not before.get(name))]
    holds = [(name, _tensor(tape, tensor)) for name, tensor in kept]
    written = [(name, what) for name, what in holds if what != f"value {name!r}"]
    return Returned(tuple(_entries(tape, result)), tuple(written))


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
        yield path, f"a {_kind(value)}" if id(value) not in seen else f"the same {_kind(value)} again"
        if id(value) not in seen:
            seen.add(id(value))
            pending += [((*path, step), child) for step, child in reversed(children_of(value))]


def _kind(value: Any) -> str:
    count = f" of {len(value)}" if isinstance(value, Mapping | Sequence | AbstractSet) else ""
    return f"{type(value).__qualname__}{count}"


def _tensor(tape: Tape, tensor: Tensor) -> str:
    key = tape.content(tensor)
    return f"{key} ({brief(tensor)})" if tape.constant(tensor) is not None else f"value {key!r}"
