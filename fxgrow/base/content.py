"""The content of a tensor as a digest, and the memory that it lies in."""

from __future__ import annotations

import ctypes
import hashlib

import torch
from torch import Tensor


def digest(tensor: Tensor) -> str:
    """SHA-256 of the entries of a tensor, in their order, as hexadecimal digits. It costs about one read of them.

    Args:
        tensor: Of any dtype and shape, on any device but meta. Only its own entries count, not what else its storage
            holds.
    """
    plain = tensor.detach().resolve_conj().resolve_neg().to("cpu").contiguous()
    entries = plain.reshape(-1).view(torch.uint8) if plain.numel() else plain
    number = entries.numel()
    content = (ctypes.c_char * number).from_address(entries.data_ptr()) if number else b""
    return hashlib.sha256(content).hexdigest()


def storage_of(tensor: Tensor) -> int:
    """Which memory a tensor lies in: the same number for all its views."""
    return int(tensor.untyped_storage()._cdata)
