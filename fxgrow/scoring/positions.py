"""Features at positions: what a layer sums over, and the same at the positions of a layer further on.

Features are (N, F, *positions). For a convolution F is input channels times kernel positions, for a linear layer its
inputs, and the positions are those of the result. What lies between two layers is taken for the identity: an
activation, a norm, a dropout; pooling for a mean over the positions that it joins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import grad

from ..model.layer_kinds import LINEAR, is_a, spatial_rank

_POOLS: tuple[Any, ...] = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
_WEIGHT_GRADIENTS = (grad.conv1d_weight, grad.conv2d_weight, grad.conv3d_weight)


def features(layer: Any, given: Tensor) -> Tensor:
    """What a layer sums over at each position of its result: (N, F, *positions)."""
    if is_a(layer, LINEAR):
        return channels_second(given)
    x = padded(layer, given)
    for dim, (size, step, gap) in enumerate(zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)):
        x = x.unfold(2 + dim, gap * (size - 1) + 1, step)[..., ::gap]
    rank = spatial_rank(layer)
    kernel = range(2 + rank, 2 + 2 * rank)
    return x.permute(0, 1, *kernel, *range(2, 2 + rank)).flatten(1, 1 + rank)  # (N, C*k*k, H, W)


def channels_second(x: Tensor) -> Tensor:
    """(N, ..., C) as (N, C, ...); a vector as a batch of one."""
    return (x.unsqueeze(0) if x.ndim == 1 else x).movedim(-1, 1)


def padded(layer: Any, given: Tensor) -> Tensor:
    """What a convolution reads, with its padding: (N, C, *positions)."""
    x = given if given.ndim == 2 + spatial_rank(layer) else given.unsqueeze(0)
    pads: list[int] = []
    for dim in reversed(range(spatial_rank(layer))):  # F.pad counts from the last dimension
        both = layer.dilation[dim] * (layer.kernel_size[dim] - 1)
        if isinstance(layer.padding, str):
            pads += [both // 2, both - both // 2] if layer.padding == "same" else [0, 0]
        else:
            pads += [layer.padding[dim]] * 2
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(x, pads, mode=mode) if any(pads) else x


def at_positions(x: Tensor, batch: int, wanted: Sequence[int]) -> Tensor | None:
    """Features at the positions that a layer further on reads; None where it is not clear which are which.

    Args:
        x: (N, F, *positions).
        batch: The N of that layer.
        wanted: The sizes of its positions.

    Returns:
        (N, F, *wanted).
    """
    here, there = tuple(x.shape[2:]), tuple(wanted)
    if x.shape[0] != batch:
        return None
    if here == there:
        return x
    if not there:
        return x.flatten(2).mean(2)
    if len(here) == len(there) <= len(_POOLS):
        if all(size % less == 0 for size, less in zip(here, there, strict=True)):
            return _POOLS[len(here) - 1](x, list(there))
        if all(more % size == 0 for size, more in zip(here, there, strict=True)):
            return F.interpolate(x, list(there))
    if math.prod(here) == math.prod(there) and 1 in (len(here), len(there)):
        return x.flatten(2).unflatten(2, there)
    return None


def on_grid(x: Tensor, places: int) -> Tensor | None:
    """Features pooled to so many positions, which are flattened: (N, F, places); None where no grid is like theirs."""
    here = x.shape[2:]
    ratio = math.prod(here) / places
    side = round(ratio ** (1 / len(here))) if here and ratio >= 1 else 0
    wanted = [size // side for size in here] if side else []
    if math.prod(wanted) != places or not side:
        return None
    pooled = at_positions(x, x.shape[0], wanted)
    return None if pooled is None else pooled.flatten(2)


def product(x: Tensor, reader: Any, given: Tensor, gradient: Tensor, places: int) -> Tensor | None:
    """The sum over samples and positions of a layer's features times the gradient further on.

    It is the gradient of the reader's columns for new channels that would be exactly these features.

    Args:
        x: The features of the layer that makes the channels, (N, F, *positions).
        reader: The layer that reads them.
        given: What it read.
        gradient: Of the loss, by what it gave.
        places: Its columns for each channel.

    Returns:
        (F, K), with K the rows of the reader times the columns of each channel; None where it is not clear which
        positions are which.
    """
    if not is_a(reader, LINEAR):
        return _of_convolution(x, reader, given, gradient)
    given, gradient = channels_second(given), channels_second(gradient)
    if places > 1:
        grid = on_grid(x, places) if given.ndim == 2 and x.shape[0] == given.shape[0] else None
        return None if grid is None else torch.einsum("nfp,no->fop", grid, gradient).flatten(1)
    there = at_positions(x, given.shape[0], given.shape[2:])
    if there is None:
        return None
    return rows_of(there).mT @ rows_of(gradient)


def as_columns(x: Tensor, reader: Any, given: Tensor, places: int) -> Tensor | None:
    """What a layer would sum over for new channels that are such features.

    Args:
        x: (N, C, *positions).
        reader: The layer.
        given: What it read.
        places: Its columns for each channel.

    Returns:
        (N*positions, C*columns), with positions as the layer has them; None where it is not clear which are which.
    """
    if not is_a(reader, LINEAR):
        wanted = given if given.ndim == 2 + spatial_rank(reader) else given.unsqueeze(0)
        there = at_positions(x, wanted.shape[0], wanted.shape[2:])
        return None if there is None else rows_of(features(reader, there))
    given = channels_second(given)
    if places > 1:
        grid = on_grid(x, places) if given.ndim == 2 and x.shape[0] == given.shape[0] else None
        return None if grid is None else grid.flatten(1)
    there = at_positions(x, given.shape[0], given.shape[2:])
    return None if there is None else rows_of(there)


def _of_convolution(x: Tensor, reader: Any, given: Tensor, gradient: Tensor) -> Tensor | None:
    rank = spatial_rank(reader)
    batched = given.ndim == 2 + rank
    given, gradient = (given, gradient) if batched else (given.unsqueeze(0), gradient.unsqueeze(0))
    there = at_positions(x, given.shape[0], given.shape[2:])
    if there is None:
        return None
    shape = (gradient.shape[1], there.shape[1], *reader.kernel_size)
    made = _WEIGHT_GRADIENTS[rank - 1](
        padded(reader, there), shape, gradient, stride=reader.stride, dilation=reader.dilation
    )
    return made.transpose(0, 1).flatten(1)  # (F, O*k*k)


def rows_of(x: Tensor) -> Tensor:
    """(N, C, *positions) as (N*positions, C)."""
    return x.movedim(1, -1).flatten(0, -2)


def result_rows(layer: nn.Module, made: Tensor) -> Tensor:
    """What a layer gave, or its gradient, as (N*positions, O)."""
    if is_a(layer, LINEAR):
        return rows_of(channels_second(made))
    return rows_of(made if made.ndim == 2 + spatial_rank(layer) else made.unsqueeze(0))
