"""Index maps: which old entry each entry of a grown dimension copies.

In: a layout and one mapping ``g: [new] -> [old]`` per atom. Out: the mapping of the dimension. A block is row-major, so
the index of an entry is ``(..(i0*n1 + i1)*n2 ..) + offset of the block`` with `n` the *old* sizes of its factors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .layout import Layout, measure, measure_block


def index_map(
    layout: Layout, width_of: Callable[[Any], int], mapping_of: Callable[[Any], Tensor]
) -> tuple[Tensor, Tensor]:
    """The old index that each index of a grown dimension copies.

    Args:
        layout: The dimension's layout.
        width_of: The old width of an atom.
        mapping_of: The mapping ``g: [new] -> [old]`` of an atom, int64 of shape ``(new,)``, whose first
            ``old`` entries are ``0 .. old-1``.

    Returns:
        ``(index, original)``, both of shape ``(new size,)``. `index` is int64: the old index that each new index
        copies. `original` is bool: True for the old entry itself, False for a replica.
    """
    pieces: list[tuple[Tensor, Tensor]] = []
    offset = 0
    for block in layout:
        index, original = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.bool)
        for factor in block:
            if isinstance(factor, int):
                inner, is_old, size = torch.arange(factor), torch.ones(factor, dtype=torch.bool), factor
            elif isinstance(factor, tuple):
                inner, is_old = index_map(factor, width_of, mapping_of)
                size = measure(factor, width_of)
            else:
                inner, size = mapping_of(factor), width_of(factor)
                is_old = torch.arange(len(inner)) < size
            index = (index[:, None] * size + inner).flatten()  # (outer, inner) -> (outer*inner,)
            original = (original[:, None] & is_old).flatten()
        pieces.append((index + offset, original))
        offset += measure_block(block, width_of)
    return torch.cat([index for index, _ in pieces]), torch.cat([original for _, original in pieces])
