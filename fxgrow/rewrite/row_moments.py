"""New entries of a weight whose rows keep their mean and their variance.

A layer uses the rows of its weight less their mean m and over their deviation. Channel c of N entries w_c gets k_c
replicas with the entries

    m + (w_c - m) / k_c + d,  where the d of the replicas of one channel add up to 0.

Less m they add up to w_c - m, so that the sum over channels is the old one. The mean is m again. The sum of squares is
sum_c (w_c - m)^2 / k_c + sum d^2, whose first term is at most the old one; so random d can be scaled so that the
variance is the old one, with whatever correction.

Source: fxgrow's docs/design.md, "Functions of weights".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Generator, Tensor


class Replicas(Protocol):
    """Which old entries those of a grown dimension are: the index, and which are the originals."""

    index: Tensor
    original: Tensor


def keep_moments(
    part: Tensor,
    grown: Mapping[int, Replicas],
    over: Sequence[int],
    correction: float,
    generator: Generator,
) -> Tensor:
    """The entries of whole rows with the mean and the variance of the original ones.

    Args:
        part: Whole rows, gathered.
        grown: The dimensions of a row that are summed over and that grow, with their index maps.
        over: All dimensions of a row.
        correction: That of the variance.
        generator: A CPU generator.
    """
    rows = list(over)
    old = part.double()
    for dim, known in grown.items():
        places = torch.nonzero(known.original).flatten()
        old = old.index_select(dim, places[torch.argsort(known.index[places])].to(part.device))
    mean = old.mean(rows, keepdim=True)
    count = torch.ones((), dtype=torch.float64, device=part.device)
    for dim, known in grown.items():
        shape = [-1 if d == dim else 1 for d in range(part.ndim)]
        count = count * torch.bincount(known.index).to(old).view(shape)
    shares = _gathered((old - mean) / count, grown)
    noise = torch.randn(part.shape, generator=generator, dtype=torch.float64).to(part.device)
    noise -= _gathered(_summed(noise, grown) / count, grown)
    ratio = (_entries(part, rows) - correction) / (_entries(old, rows) - correction)
    missing = (old - mean).square().sum(rows, keepdim=True) * ratio - shares.square().sum(rows, keepdim=True)
    drawn = noise.square().sum(rows, keepdim=True)
    scale = (missing.clamp_min(0) / drawn.clamp_min(torch.finfo(torch.float64).tiny)).sqrt()
    return (mean + shares + noise * scale).to(part.dtype)


def _entries(tensor: Tensor, rows: Sequence[int]) -> int:
    return math.prod(tensor.shape[dim] for dim in rows)


def _gathered(tensor: Tensor, grown: Mapping[int, Replicas]) -> Tensor:
    for dim, known in grown.items():
        tensor = tensor.index_select(dim, known.index.to(tensor.device))
    return tensor


def _summed(tensor: Tensor, grown: Mapping[int, Replicas]) -> Tensor:
    """The sums over the replicas of each channel."""
    for dim, known in grown.items():
        shape = list(tensor.shape)
        shape[dim] = int(known.index.max()) + 1
        tensor = tensor.new_zeros(shape).index_add_(dim, known.index.to(tensor.device), tensor)
    return tensor
