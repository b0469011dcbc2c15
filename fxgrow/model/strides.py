"""How a tensor lies in memory: the order of its dimensions, from the outermost to the innermost.

An optimizer's state lies as its parameter does. torch makes it so, and its fused kernels rely on it: they pair entries
of a parameter, its gradient and its state by their places in memory, whatever the strides say.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .partition import as_dtensor, local_part, partition_of
from .sharded import is_dtensor

Order = tuple[int, ...]  # dimensions by their strides, the largest first; () for row by row


def order_of(tensor: Tensor) -> Order:
    """How a tensor lies in memory; dimensions of equal strides as they stand."""
    strides = tensor.stride()
    order = tuple(sorted(range(tensor.ndim), key=lambda dim: -strides[dim]))
    return () if order == tuple(range(tensor.ndim)) else order


def strides_in(order: Order, shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a tensor of a shape that lies so, without gaps."""
    strides, stride = [0] * len(shape), 1
    for dim in reversed(order or range(len(shape))):
        strides[dim] = stride
        stride *= max(shape[dim], 1)
    return tuple(strides)


def is_channels_last(order: Order) -> bool:
    """Whether images or volumes lie channels last."""
    return len(order) in (4, 5) and order == (0, *range(2, len(order)), 1)


def grown_order(order: Order, shape: Sequence[int]) -> Order:
    """How a tensor lies that is grown from one of a shape: channels last is kept where it is not row by row, too."""
    both = 0 in shape or (len(shape) > 2 and (shape[1] == 1 or max(shape[2:]) == 1))
    return order if is_channels_last(order) and not both else ()


def laid_as(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor of another one's shape as that lies in memory: itself where it does, else a copy."""
    if tensor.shape != like.shape or tensor.ndim < 2 or tensor.layout != torch.strided:
        return tensor
    if is_dtensor(tensor):
        mine, theirs = local_part(tensor), local_part(like) if is_dtensor(like) else None
        laid = mine if theirs is None else laid_as(mine, theirs)
        return tensor if laid is mine else as_dtensor(laid, partition_of(tensor, "the state"), tensor.shape)
    strides = strides_in(order_of(like), like.shape)
    if is_dtensor(like) or tensor.stride() == strides:
        return tensor
    return torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype, device=tensor.device).copy_(tensor)
