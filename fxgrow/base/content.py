"""The content of a tensor as a digest, and the memory that it lies in."""

from __future__ import annotations

import ctypes
import hashlib
import math

import torch
from torch import Tensor


def digest(tensor: Tensor) -> str:
    """SHA-256 of the entries of a tensor, in their order, as hexadecimal digits. It costs about one read of them.

    Args:
        tensor: Of any dtype and shape, on any device but meta. Only its own entries count, not what else its storage
            holds.
    """
    plain = dense(tensor).resolve_conj().resolve_neg().to("cpu").contiguous()
    entries = plain.reshape(-1).view(torch.uint8) if plain.numel() else plain
    number = entries.numel()
    content = (ctypes.c_char * number).from_address(entries.data_ptr()) if number else b""
    return hashlib.sha256(content).hexdigest()


def dense(tensor: Tensor) -> Tensor:
    """All entries of a tensor, also of one that is sparse."""
    return tensor.detach() if tensor.layout == torch.strided else tensor.detach().to_dense()


def storage_of(tensor: Tensor) -> int:
    """Which memory a tensor lies in: the same number for all its views. One that is sparse lies in several: its own."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except NotImplementedError:
        return -id(tensor)


def form_of(tensor: Tensor) -> tuple[object, ...]:
    """How a tensor lies in its memory, and its dtype."""
    if tensor.layout != torch.strided:
        return tensor.shape, tensor.layout, tensor.dtype
    return tensor.shape, tensor.stride(), tensor.storage_offset(), tensor.dtype


def region_of(tensor: Tensor) -> str:
    """Which part of its memory a tensor is, without the size of the memory where it is all of it."""
    if tensor.layout != torch.strided:
        return "all of it"
    whole = tensor.is_contiguous() and tensor.nbytes == tensor.untyped_storage().nbytes()
    return "all of it" if whole else f"from {tensor.storage_offset()} in steps of {tensor.stride()}"


def memory_span(value: object) -> tuple[int, int] | None:
    """From which address to which the entries of a tensor or of an array of numpy lie; None: it has none."""
    array = getattr(type(value), "__module__", "") == "numpy" and getattr(value, "__array_interface__", None)
    if isinstance(array, dict):
        first, sizes = int(array["data"][0]), tuple(array["shape"])
        size: int = value.itemsize  # type: ignore[attr-defined]
        steps = tuple(value.strides)  # type: ignore[attr-defined]
    elif isinstance(value, Tensor) and value.layout == torch.strided and value.device.type != "meta":
        size, sizes = value.element_size(), tuple(value.shape)
        first, steps = value.data_ptr(), tuple([size * step for step in value.stride()])
    else:
        return None
    if not math.prod(sizes) or any(step < 0 for step in steps):
        return None
    return first, first + sum((n - 1) * step for n, step in zip(sizes, steps, strict=True)) + size
