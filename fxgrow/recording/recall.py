"""Slow calls on real numbers, remembered: a model that is run again on the same arguments makes them again.

A model that decides by the numbers in tensors is recorded in each mode, again where it asks about global state, and
again as a graph. The digest of a value says how it was computed from parameters and arguments. So an operator that is
a function of its arguments gives the same again where their digests are the same, and all else about them.

What runs have to show is left alone: the model's own code, which operators it calls, every write, and every draw.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .meta_cache import Given
from .operators import kind_of, results_of

SLOW = 0.5e-3  # seconds: a call that takes longer is remembered
MOST = 1 << 30  # bytes that are remembered
FUNCTIONS = ("aten", "prims", "torchvision")  # whose operators have no state of their own


class Recall:
    """What slow calls gave in the runs of one model on one set of arguments.

    Every run must start from the same parameters, buffers and arguments.

    Args:
        slow: Seconds; a call that takes longer is remembered.
        most: Bytes that are remembered in all.

    Attributes:
        recalled: How many calls were answered without running them.
    """

    def __init__(self, slow: float = SLOW, most: int = MOST) -> None:
        self._slow = slow
        self._left = most
        self._given: dict[tuple[Any, ...], Any] = {}
        self.recalled = 0

    def result(
        self,
        op: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        digests: Sequence[int],
        given: Sequence[Given],
        others: str,
    ) -> Any:
        """What `op(*args, **kwargs)` gives, in tensors of its own.

        Args:
            op: The overload.
            args: Its arguments by position.
            kwargs: Its arguments by name.
            digests: Of the tensors among them, in order.
            given: The tensors among them in order; before those of a list, how many these are.
            others: All arguments that are no tensors, with their places, in words.
        """
        if not _is_function(op):
            return op(*args, **kwargs)
        key = (op, others, tuple(digests), *map(_like, given))
        known = self._given.get(key)
        if known is not None:
            self.recalled += 1
            return _copied(known)
        before = time.perf_counter()
        out = op(*args, **kwargs)
        if time.perf_counter() - before > self._slow and _is_plain(out):
            size = sum(o.nbytes for o in results_of(out))
            if size <= self._left:
                self._left -= size
                self._given[key] = _copied(out)  # the model may write to what it was given
        return out


def _like(value: Given) -> Any:
    """All of a tensor but its numbers."""
    return (value.shape, value.stride(), value.dtype) if isinstance(value, Tensor) else value


def _is_plain(out: Any) -> bool:
    """Whether copies of the results are the same in all that the model can see."""
    outs = results_of(out)
    return all(type(o) is Tensor and o.layout is torch.strided and o.is_contiguous() for o in outs)


def _copied(out: Any) -> Any:
    return out.clone() if isinstance(out, Tensor) else type(out)([o.clone() for o in out])


@cache
def _is_function(op: Any) -> bool:
    """Whether an operator gives new tensors that depend on its arguments alone."""
    schema = op._schema
    own = all(a.alias_info is None for a in (*schema.arguments, *schema.returns))
    tensors = bool(schema.returns) and all(
        str(r.type) in ("Tensor", "List[Tensor]", "Tensor[]") for r in schema.returns
    )
    return op.namespace in FUNCTIONS and own and tensors and not kind_of(op).random
