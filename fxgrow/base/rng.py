"""Random numbers that depend only on a seed and a name: equal on every rank, device and dtype, in any order."""

from __future__ import annotations

import hashlib

import torch
from torch import Generator, Tensor


def dtype_drawn(tensor: Tensor) -> torch.dtype:
    """The dtype in which normal numbers are drawn for a tensor: whatever its precision, they are the same."""
    return torch.complex64 if tensor.is_complex() else torch.float32


def named_generator(seed: int, name: str) -> Generator:
    """A CPU generator for one named draw, seeded with a hash of seed and name."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def block_generator(seed: int, name: str, dim: int, block: int) -> Generator:
    """A CPU generator for one block of the entries that are drawn along a dimension of a tensor.

    Each block has its own, so that any of them can be drawn without those before it.
    """
    return named_generator(seed, f"{name}[{dim}] {block}")


def sixteen_bits(number: int, generator: Generator) -> Tensor:
    """Uniform random integers of 16 bits, int16 of shape (number,) on the CPU; each 64-bit draw gives four of them."""
    draws = torch.empty(-(-number // 4), dtype=torch.int64, device="cpu")
    return draws.random_(-(1 << 63), None, generator=generator).view(torch.int16)[:number]
