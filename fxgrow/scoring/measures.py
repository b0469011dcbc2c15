"""What a width is worth to grow, of the sums of a pass: one function for each kind.

Let a new channel of a width be h = w x, with x the features of the layers that make it and w their new rows, and let v
be the new columns of the layers that read it. The loss changes by v (M^T w) at first, with M, (F, K), the sum of
features times gradients: rows for all layers that make the width, columns for all that read it.

- "gradmax": for columns v of unit length, the gradient of the new rows is M v. The largest that `size` new channels,
  as many as there are, can have together is the root of the sum of the squares of M's `size` largest singular values
  (Evci et al., arXiv 2201.05125, equation 9).
- "firefly": for rows w drawn at random, as long as the layer's own, the gradient of the new columns is M^T w; of
  `size` new channels the root of the sum of their squares: how fast the loss falls at first (Wu et al., arXiv
  2102.08574, equation 4, with candidates that are not tuned).
- "tiny": the result of a layer that reads the width should move by -g at each position. Its weights and bias can give
  the best fit of g by what it reads. Of the rest, the root of the square of what new channels can give: of the best fit
  by `CANDIDATES` of them with random rows beside (Verbockhaven et al., arXiv 2405.19816, sections 3 and 4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..base.rng import named_generator
from .gathered import Pair, Sums
from .layers import Layer

CUT = 1e-10  # of the largest eigenvalue: directions below are rounding errors
Measured = tuple[float, tuple[float, ...]]  # the score, and what it is made of


def gradmax(sums: Sums, pairs: Sequence[Pair], size: int) -> Measured:
    """The largest gradient of new rows; with the singular values."""
    values = torch.linalg.svdvals(together(sums, pairs)).tolist()[:size]
    return _length(values), tuple(values)


def firefly(sums: Sums, pairs: Sequence[Pair], size: int) -> Measured:
    """The gradient of new columns for random rows; with its length for each channel."""
    matrix = together(sums, pairs)
    rows = []
    for maker in dict.fromkeys(maker for _, maker, _ in pairs):
        weight: Tensor = maker.module.weight.detach()  # type: ignore[operator]
        own = weight.flatten(1).to(matrix)
        generator = named_generator(0, f"firefly {maker.path}")
        drawn = torch.randn(size, own.shape[1], generator=generator, dtype=torch.float64).to(matrix)
        rows.append(drawn * own.square().mean().sqrt())
    lengths = (torch.cat(rows, 1) @ matrix).norm(dim=1).tolist()
    return _length(lengths), tuple(lengths)


def tiny(sums: Sums, pairs: Sequence[Pair], size: int) -> Measured:
    """What the readers cannot follow of the gradient, and new channels can; with the same for each of them."""
    readers = dict.fromkeys(reader for _, _, reader in pairs)
    gained = [math.sqrt(_gained(sums, pairs[0][0], reader) / sums.batches) for reader in readers]
    return _length(gained), tuple(gained)


Measure = Callable[[Sums, Sequence[Pair], int], Measured]
KINDS: dict[str, Measure] = {"gradmax": gradmax, "tiny": tiny, "firefly": firefly}
OF_FITS = ("tiny",)  # those that need least-squares fits


def together(sums: Sums, pairs: Sequence[Pair]) -> Tensor:
    """M for a width, a mean over batches: zero where a layer does not read what another makes."""
    makers: dict[Layer, int] = {}
    readers: dict[Layer, int] = {}
    for pair in pairs:
        makers[pair[1]], readers[pair[2]] = sums.products[pair].shape
    any_product = sums.products[pairs[0]]
    matrix = any_product.new_zeros(sum(makers.values()), sum(readers.values()))
    for pair in pairs:
        top, left = _before(makers, pair[1]), _before(readers, pair[2])
        matrix[top : top + makers[pair[1]], left : left + readers[pair[2]]] = sums.products[pair]
    return matrix / sums.batches


def _before(sizes: dict[Layer, int], layer: Layer) -> int:
    earlier = list(sizes)[: list(sizes).index(layer)]
    return sum(sizes[one] for one in earlier)


def _gained(sums: Sums, name: str, reader: Layer) -> float:
    """By how much candidates for new channels reduce the squares that a fit by what a layer reads leaves."""
    own, goal, across = sums.inner[reader], sums.goals[reader], sums.across[name, reader]
    inner = torch.cat([torch.cat([own, across], 1), torch.cat([across.mT, sums.inner[name, reader]], 1)])
    more = _fitted(inner, torch.cat([goal, sums.goals[name, reader]])) - _fitted(own, goal)
    return max(more, 0.0)


def _fitted(inner: Tensor, goal: Tensor) -> float:
    """The squares that a least-squares fit takes: of the goals by regressors of unit length."""
    scale = inner.diagonal().sqrt()
    scale = torch.where(scale > 0, scale, 1)
    values, vectors = torch.linalg.eigh(inner / scale / scale[:, None])
    kept = values > CUT * values[-1]
    return float(((vectors.mT @ (goal / scale[:, None]))[kept].square() / values[kept, None]).sum())


def _length(values: Sequence[float]) -> float:
    return math.sqrt(sum(value**2 for value in values))
