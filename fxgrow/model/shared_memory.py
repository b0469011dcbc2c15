"""Parameters and buffers that share memory with another tensor, which copies of a model do not.

What `forward` writes to a buffer would no longer be read in the other. Two parameters in one memory are tied for an
optimizer, which writes to both at once; a student's would not be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
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


def check_apart(tensors: Mapping[str, Tensor]) -> None:
    """Check that no two parameters have an entry in one place.

    Raises:
        TraceError: Two have.
    """
    parameters = {id(t): (name, t) for name, t in tensors.items() if isinstance(t, nn.Parameter)}
    spans = [(*span, name, t) for name, t in parameters.values() if (span := memory_span(t))]
    active: list[tuple[int, str, Tensor]] = []
    for start, end, name, tensor in sorted(spans, key=lambda span: span[:2]):
        active = [entry for entry in active if entry[0] > start]
        other = next((other for _, other, held in active if _overlap(held, tensor)), None)
        if other is not None:
            raise TraceError(
                f"the parameters {other!r} and {name!r} are two in one memory, where a step of training changes both, "
                "as it would not in a copy: use one parameter in both places, or give one a clone"
            )
        active.append((end, name, tensor))


def _overlap(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors whose memory has bytes between the same addresses have an entry in common."""
    if one.element_size() != other.element_size() or all(map(_is_dense, (one, other))):
        return True
    return bool(torch.isin(*map(_addresses, (one, other))).any())


def _is_dense(tensor: Tensor) -> bool:
    span = memory_span(tensor)
    return span is not None and span[1] - span[0] == tensor.numel() * tensor.element_size()


def _addresses(tensor: Tensor) -> Tensor:
    """Where each entry lies, int64."""
    found = torch.tensor(tensor.data_ptr())
    for size, step in zip(tensor.shape, tensor.stride(), strict=True):
        found = found.unsqueeze(-1) + torch.arange(size) * (step * tensor.element_size())
    return found.flatten()


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
