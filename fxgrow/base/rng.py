"""Randomness that depends on the seed and a name only: the same on every rank, device and dtype, in any order."""

from __future__ import annotations

import hashlib

from torch import Generator


def named_generator(seed: int, name: str) -> Generator:
    """A generator on the CPU for one named draw."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
