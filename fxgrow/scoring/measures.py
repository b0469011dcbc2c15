"""What a width is worth to grow, of the sums of a pass: one function for each kind.

Let a new channel of a width be h = w x, with x the features of the layers that make it and w their new rows, and let v
be the new columns of the layers that read it. The loss changes by v (M^T w) at first, with M, (F, K), the sum of
features times gradients: rows for all layers that make the width, columns for all that read it. Of new channels, n are
meant: as many as there are, at most `CANDIDATES`.

- "gradmax": for columns v of unit length, the gradient of the new rows is M v. The largest that n channels can have
  together is the root of the sum of the squares of M's n largest singular values (Evci et al., arXiv 2201.05125).
- "firefly": for rows w drawn at random, as long as the layer's own, the gradient of the new columns is M^T w; of n
  channels the root of the sum of their squares: how fast the loss falls at first (Wu et al., arXiv 2102.08574, with
  candidates that are not tuned).
- "tiny": the result of a layer that reads the width should move by -g at each position. Its weights and bias can give
  the best fit of g by what it reads. Of the rest, the root of the square of what new channels can give: of the best fit
  by `CANDIDATES` of them with random rows beside (Verbockhaven et al., arXiv 2405.19816).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..base.rng import named_generator
from .gathered import CANDIDATES, Pair, Sums
from .layers import Layer

DIRECT = 768  # rows or columns of a matrix whose singular values are all computed; of a larger one, the largest are
BESIDE = 16  # directions of the iteration beside those that are wanted
ROUNDS = 6  # at most
SETTLED = 1e-4  # by which part of their sum of squares the values of a further round may still differ
RIDGE = 1e-9  # beside squared lengths of 1: regressors that depend on others are well-posed
Measured = tuple[float, tuple[float, ...]]  # the score, and what it is made of


def gradmax(sums: Sums, pairs: Sequence[Pair], size: int) -> Measured:
    """The largest gradient of new rows; with the singular values."""
    values = largest_singular_values(together(sums, pairs), min(size, CANDIDATES)).tolist()
    return _length(values), tuple(values)


def firefly(sums: Sums, pairs: Sequence[Pair], size: int) -> Measured:
    """The gradient of new columns for random rows; with its length for each channel."""
    matrix = together(sums, pairs)
    rows: list[Tensor] = []
    count = min(size, CANDIDATES)
    for maker in dict.fromkeys(maker for _, maker, _ in pairs):
        weight: Tensor = maker.module.weight.detach()  # type: ignore[operator]
        own = weight.flatten(1).to(matrix)
        generator = named_generator(0, f"firefly {maker.path}")
        drawn = torch.randn(count, own.shape[1], generator=generator, dtype=torch.float64).to(matrix)
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


def largest_singular_values(matrix: Tensor, count: int) -> Tensor:
    """The largest singular values of a matrix; of a large one by subspace iteration, to two digits or more.

    A round multiplies a basis of `count` directions and some more by the matrix and its transpose. Rounds end where the
    sum of the squares of the wanted values, which only grows, has settled.
    """
    if min(matrix.shape) <= DIRECT:
        return torch.linalg.svdvals(matrix)[:count]
    wanted = min(count + BESIDE, *matrix.shape)
    generator = named_generator(0, "singular values")
    basis = torch.randn(matrix.shape[1], wanted, generator=generator, dtype=torch.float64).to(matrix)
    values, before = matrix.new_zeros(count), 0.0
    for _ in range(ROUNDS):
        left = torch.linalg.qr(matrix @ basis).Q
        right, small = torch.linalg.qr(matrix.mT @ left)
        values = torch.linalg.svdvals(small)[:count]
        basis, now = right, float(values.square().sum())
        if now - before <= SETTLED * now:
            break
        before = now
    return values


def _before(sizes: dict[Layer, int], layer: Layer) -> int:
    earlier = list(sizes)[: list(sizes).index(layer)]
    return sum(sizes[one] for one in earlier)


def _gained(sums: Sums, name: str, reader: Layer) -> float:
    """By how much candidates for new channels reduce the squares that a fit by what a layer reads leaves.

    With A the regressors that there are, C the candidates and g the gradient: the candidates less their fit by A have
    the products S = C'C - C'A (A'A)^-1 A'C with each other, and h = C'g - C'A (A'A)^-1 A'g with the gradient. They take
    h' S^-1 h. Regressors are scaled to unit length, with a slight ridge.
    """
    own, own_scale = _unit(sums.inner[reader])
    new, new_scale = _unit(sums.inner[name, reader])
    across = sums.across[name, reader] / own_scale[:, None] / new_scale
    goals = sums.goals[reader] / own_scale[:, None]
    triangle = torch.linalg.cholesky(own)
    half = torch.linalg.solve_triangular(triangle, torch.cat([across, goals], 1), upper=False)
    across, goals = half[:, : across.shape[1]], half[:, across.shape[1] :]
    left = sums.goals[name, reader] / new_scale[:, None] - across.mT @ goals
    rest = torch.linalg.cholesky(new - across.mT @ across)
    return float(torch.linalg.solve_triangular(rest, left, upper=False).square().sum())


def _unit(inner: Tensor) -> tuple[Tensor, Tensor]:
    """The products of regressors of unit length with each other, with a ridge, and their lengths before."""
    scale = inner.diagonal().sqrt()
    scale = torch.where(scale > 0, scale, 1)
    unit = inner / scale / scale[:, None]
    unit.diagonal().add_(RIDGE)
    return unit, scale


def _length(values: Sequence[float]) -> float:
    return math.sqrt(sum(value**2 for value in values))
