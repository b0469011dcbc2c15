"""Numbers that torch looks at while it parses the arguments of a call, and that stay symbolic in the graph.

`torch.roll(x, b)` asks the proxy `b` for a plain number, to see whether the arguments fit. Then it hands the same
proxy on, and the graph gets a node with `b` among its arguments. So nothing was decided by the number, and no guard is
needed. `range(b)` asks in the same way, but no call follows. Which it was shows at the next event of the trace: an
answer waits until then for a call by the same instruction of the same frame.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from torch import fx

from ..errors import TraceError
from ..model.provenance import caller


class Probes:
    """The numbers that were asked for and may turn out to be arguments of a call.

    Args:
        commit: Guards the number of a node that Python was told; takes also the place in the user's code.
    """

    def __init__(self, commit: Callable[[fx.Node, Any, str], None]) -> None:
        self._commit = commit
        self._waiting: dict[fx.Node, tuple[Any, str]] = {}
        self._asker: tuple[FrameType, int] | None = None  # the frame, and its instruction

    def close(self, reason: str) -> None:
        """Let go of the tracer, whose trace is finished; what is asked from now on is refused."""
        self._waiting, self._asker, self._commit = {}, None, partial(_refused, reason)

    def asked(self, node: fx.Node, value: Any, frame: FrameType) -> None:
        """An instruction of a frame asks for the number of a node."""
        asker = frame, frame.f_lasti
        if self._asker != asker:
            self.settle()
            self._asker = asker
        self._waiting[node] = value, caller()

    def called(self, arguments: Any, frame: FrameType) -> None:
        """An instruction of a frame calls a function of torch: what it asked for and hands on needs no guard."""
        if self._asker == (frame, frame.f_lasti):
            fx.node.map_arg(arguments, lambda node: self._waiting.pop(node, None))
        self.settle()

    def settle(self) -> None:
        """Guard all that waits."""
        waiting, self._waiting, self._asker = self._waiting, {}, None
        for node, (value, place) in waiting.items():
            self._commit(node, value, place)

    def forget(self) -> None:
        """Drop all that waits: what asked for it has failed, and its nodes are erased."""
        self._waiting, self._asker = {}, None


def _refused(reason: str, *asked: Any) -> None:
    raise TraceError(reason)
