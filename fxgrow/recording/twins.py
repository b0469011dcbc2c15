"""Constants of which one may be the other under a new name.

`c.to(x.device)` gives `c` itself where it is there already, and a copy with `copy=True`. In a run on the meta device
both arrive as one operator, which copies. The two differ once one of them is written to and the other is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ..base.content import storage_of
from ..errors import TraceError

_COPY = torch.ops.aten._to_copy.default


class Noting(Protocol):
    """A tape, as far as it is needed here."""

    site: str
    failure: Exception | None


class Twins:
    """The pairs of a run, by their memory, and which of them are out of date."""

    def __init__(self) -> None:
        self._of: dict[int, set[int]] = {}
        self._stale: set[int] = set()

    def note(self, op: object, args: Sequence[Any], out: object) -> None:
        """A call on constants gave another one, which may be the same tensor."""
        if op is _COPY and isinstance(out, Tensor) and (out.dtype, out.device) == (args[0].dtype, args[0].device):
            self._of.setdefault(storage_of(args[0]), set()).add(storage_of(out))
            self._of.setdefault(storage_of(out), set()).add(storage_of(args[0]))

    def written(self, real: Tensor | None) -> None:
        """A constant is written to."""
        if real is not None and self._of:
            reached, left = set[int](), [storage_of(real)]
            while left:
                memory = left.pop()
                reached.add(memory)
                left += self._of.get(memory, set()) - reached
            self._stale |= reached - {storage_of(real)}

    def check(self, real: Tensor, tape: Noting) -> None:
        """Refuse to read a constant that may have been written to under its other name.

        Raises:
            TraceError: It may; the tape notes it, too, since the model's code may catch it.
        """
        if self._stale and storage_of(real) in self._stale:
            tape.failure = TraceError(
                f"{tape.site or 'forward'} reads a constant after a write to what `.to` made of it, or the other way "
                "round, which is the same tensor on one device and a copy on another; write `x = x + y` for `x += y`"
            )
            raise tape.failure
