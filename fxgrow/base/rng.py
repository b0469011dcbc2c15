"""Random numbers that depend only on a seed and a name: equal on every rank, device and dtype, in any order."""

from __future__ import annotations

import hashlib

from torch import Generator


def named_generator(seed: int, name: str) -> Generator:
    """A CPU generator for one named draw, seeded with a hash of seed and name."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
