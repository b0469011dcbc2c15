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
- "tiny": the layer's result should move by -g at each position, and new weights can only move it by what they make of
  its inputs. What is left of g after the best fit by these inputs (and the bias) is what only new channels can give.
  The root of the mean of its square, over batches (Verbockhaven et al., arXiv 2405.19816, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..base.rng import named_generator
from .gathered import Gathered, Pair, Squares
from .layers import Layer

CUT = 1e-10  # of the largest eigenvalue: directions below are rounding errors
Measured = tuple[float, tuple[float, ...]]  # the score, and what it is made of


def gradmax(sums: Gathered, pairs: Sequence[Pair], size: int) -> Measured:
    """The largest gradient of new rows; with the singular values."""
    values = torch.linalg.svdvals(together(sums, pairs)).tolist()[:size]
    return _length(values), tuple(values)


def firefly(sums: Gathered, pairs: Sequence[Pair], size: int) -> Measured:
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


def tiny(sums: Gathered, pairs: Sequence[Pair], size: int) -> Measured:
    """What the layers that read the width cannot follow of the gradient; with the same for each of them."""
    readers = dict.fromkeys(reader for _, _, reader in pairs)
    left = [math.sqrt(_residual(sums.squares[reader]) / sums.batches) for reader in readers]
    return _length(left), tuple(left)


Measure = Callable[[Gathered, Sequence[Pair], int], Measured]
KINDS: dict[str, Measure] = {"gradmax": gradmax, "tiny": tiny, "firefly": firefly}
OF_SQUARES = ("tiny",)  # those that need the least squares of readers


def together(sums: Gathered, pairs: Sequence[Pair]) -> Tensor:
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


def _residual(squares: Squares) -> float:
    """The squares that a least-squares fit leaves."""
    values, vectors = torch.linalg.eigh(squares.inner)
    kept = values > CUT * values[-1]
    fitted = ((vectors.mT @ squares.cross)[kept].square() / values[kept, None]).sum()
    return max(squares.whole - float(fitted), 0.0)


def _length(values: Sequence[float]) -> float:
    return math.sqrt(sum(value**2 for value in values))
