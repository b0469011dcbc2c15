"""What is added up over batches: products of features and gradients, and the least squares of each reader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .layers import Layer
from .positions import features, product, result_rows, rows_of
from .recorded import Call, Run

Pair = tuple[str, Layer, Layer]  # a width, a layer that makes it, a layer that reads it


@dataclass(slots=True)
class Squares:
    """The sums of a least-squares fit of gradients by what a layer reads.

    Attributes:
        inner: Of what it reads with itself, (F, F).
        cross: Of what it reads with the gradient, (F, O).
        whole: Of the squares of the gradient.
    """

    inner: Tensor
    cross: Tensor
    whole: float


@dataclass(slots=True)
class Gathered:
    """The sums of a pass. It is changed by `add`.

    Attributes:
        of_pairs: Whether products of features and gradients are wanted; else the least squares.
        names: The widths.
        products: By width and layers, (F, K) as `positions.product` gives it.
        squares: By reader.
        met: Widths and layers of which one read what the other made.
        apart: Widths and layers whose positions were not told apart.
        batches: How many there were.
    """

    of_pairs: bool
    names: Sequence[str]
    products: dict[Pair, Tensor] = field(default_factory=dict)
    squares: dict[Layer, Squares] = field(default_factory=dict)
    met: dict[Pair, None] = field(default_factory=dict)
    apart: dict[Pair, None] = field(default_factory=dict)
    batches: int = 0

    def add(self, run: Run) -> None:
        """Add a batch."""
        self.batches += 1
        for reader, gradient in run.gradients.items():
            wanted = [name for name in self.names if name in reader.layer.reads]
            pairs = [(name, call) for name in wanted for call in run.makers[reader] if name in call.layer.makes]
            self.met.update(dict.fromkeys((name, call.layer, reader.layer) for name, call in pairs))
            if self.of_pairs:
                self._add_products(reader, gradient, pairs)
            elif pairs:
                self._add_squares(reader, gradient)

    def _add_products(self, reader: Call, gradient: Tensor, pairs: Iterable[tuple[str, Call]]) -> None:
        for name, maker in pairs:
            key = (name, maker.layer, reader.layer)
            x = features(maker.layer.module, _exact(maker.given))
            found = product(x, reader.layer.module, _exact(reader.given), _exact(gradient), reader.layer.reads[name])
            if found is None:
                self.apart[key] = None
            else:
                self.products[key] = self.products[key] + found if key in self.products else found

    def _add_squares(self, reader: Call, gradient: Tensor) -> None:
        module = reader.layer.module
        x = rows_of(features(module, reader.given)).double()
        g = result_rows(module, gradient).double()
        if getattr(module, "bias", None) is not None:
            x = torch.cat([x, x.new_ones(len(x), 1)], 1)
        new = Squares(x.mT @ x, x.mT @ g, float(g.square().sum()))
        old = self.squares.get(reader.layer)
        self.squares[reader.layer] = (
            Squares(old.inner + new.inner, old.cross + new.cross, old.whole + new.whole) if old else new
        )


def _exact(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x if x.dtype == torch.float64 else x.float()
