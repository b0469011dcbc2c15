"""Buffers that share memory with another tensor, which copies of a model do not.

What `forward` writes to one of the two would no longer be read in the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from ..base.content import memory_span
from ..errors import TraceError
from .copies import Inventory
from .kept_state import all_held


def buffers_that_share(held: Inventory) -> dict[str, str]:
    """Each buffer of a model that shares memory with another tensor, and with which one.

    Raises:
        TraceError: One does so with an array of numpy, which may be written to beside every operator.
    """
    tensors = held.tensors
    if all(isinstance(tensor, nn.Parameter) for tensor in tensors.values()):
        return {}
    names = {id(tensor): name for name, tensor in tensors.items()}
    known = {id(value): value for value in (*tensors.values(), *all_held(held.paths))}
    spans = [(*span, names.get(id(v), ""), v) for v in known.values() if (span := memory_span(v))]
    found: dict[str, str] = {}
    active: list[tuple[int, str, Any]] = []
    for start, end, name, value in sorted(spans, key=lambda span: span[:2]):
        active = [entry for entry in active if entry[0] > start]
        for _, other_name, other in active:
            both = [(name, value), (other_name, other)]
            for (one, tensor), (another, shared) in (both, both[::-1]):
                if one and not isinstance(tensor, nn.Parameter):
                    found[one] = repr(another) if another else "an attribute of the model"
                    if not isinstance(shared, Tensor):
                        raise TraceError(f"the buffer {one!r} shares memory with an array of numpy; give it a clone")
        active.append((end, name, value))
    return found


def check_written(shared: dict[str, str], written: Iterable[str]) -> None:
    """Check that a run wrote to no buffer that shares memory with another tensor.

    Raises:
        TraceError: It did.
    """
    for name in written:
        if name in shared:
            raise TraceError(
                f"forward writes to the buffer {name!r}, which shares memory with {shared[name]}; a copy would not, so "
                "give it a clone"
            )
