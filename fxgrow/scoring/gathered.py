"""What is added up over batches: products of features and gradients, or the parts of least-squares fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..base.rng import named_generator
from .layers import Layer
from .positions import as_columns, features, product, result_rows, rows_of
from .recorded import Call, Run

CANDIDATES = 64  # channels with random rows, of which a fit takes what it can
Pair = tuple[str, Layer, Layer]  # a width, a layer that makes it, a layer that reads it


@dataclass(slots=True)
class Sums:
    """The sums of a pass, by what they are of. It is changed by `add`.

    Attributes:
        names: The widths.
        fits: Whether fits are wanted; else products of features and gradients.
        products: By width and two layers, (F, K) as `positions.product` gives it.
        inner: By reader, or by width and reader, of regressors with each other: (F, F).
        across: By width and reader, of what it reads with candidates, (F, C).
        goals: As `inner`, of regressors with the gradient: (F, O).
        whole: By reader, of the squares of the gradient.
        met: Widths and layers of which one read what the other made.
        apart: Those of them whose positions could not be told apart.
        batches: How many there were.
    """

    names: Sequence[str]
    fits: bool
    products: dict[Pair, Tensor] = field(default_factory=dict)
    inner: dict[Any, Tensor] = field(default_factory=dict)
    across: dict[Any, Tensor] = field(default_factory=dict)
    goals: dict[Any, Tensor] = field(default_factory=dict)
    whole: dict[Layer, Tensor] = field(default_factory=dict)
    met: dict[Pair, None] = field(default_factory=dict)
    apart: dict[Pair, None] = field(default_factory=dict)
    batches: int = 0

    def add(self, run: Run) -> None:
        """Add a batch."""
        self.batches += 1
        for reader, gradient in run.gradients.items():
            makers = {
                name: [call for call in run.makers[reader] if name in call.layer.makes]
                for name in self.names
                if name in reader.layer.reads
            }
            self.met.update(
                {(name, call.layer, reader.layer): None for name, calls in makers.items() for call in calls}
            )
            if self.fits and any(makers.values()):
                self._add_fits(reader, gradient, makers)
            elif not self.fits:
                self._add_products(reader, gradient, makers)

    def of(self, name: str) -> list[Pair]:
        """The pairs of layers of a width that count."""
        return [pair for pair in self.met if pair[0] == name and pair not in self.apart]

    def _add_products(self, reader: Call, gradient: Tensor, makers: dict[str, list[Call]]) -> None:
        for name, calls in makers.items():
            for maker in calls:
                key = (name, maker.layer, reader.layer)
                x = features(maker.layer.module, _exact(maker.given))
                found = product(
                    x, reader.layer.module, _exact(reader.given), _exact(gradient), reader.layer.reads[name]
                )
                if found is None:
                    self.apart[key] = None
                else:
                    _add(self.products, key, found)

    def _add_fits(self, reader: Call, gradient: Tensor, makers: dict[str, list[Call]]) -> None:
        module, layer = reader.layer.module, reader.layer
        x = rows_of(features(module, reader.given)).double()
        if getattr(module, "bias", None) is not None:
            x = torch.cat([x, x.new_ones(len(x), 1)], 1)
        g = result_rows(module, gradient).double()
        _add(self.inner, layer, x.mT @ x)
        _add(self.goals, layer, x.mT @ g)
        _add(self.whole, layer, g.square().sum())
        for name, calls in makers.items():
            candidates = self._candidates(name, reader, calls)
            if candidates is not None:
                _add(self.inner, (name, layer), candidates.mT @ candidates)
                _add(self.across, (name, layer), x.mT @ candidates)
                _add(self.goals, (name, layer), candidates.mT @ g)

    def _candidates(self, name: str, reader: Call, calls: Sequence[Call]) -> Tensor | None:
        """What the reader would sum over for new channels with random rows: (N*positions, C)."""
        total: Tensor | None = None
        for call in calls:
            x = features(call.layer.module, _exact(call.given))
            generator = named_generator(0, f"{name} of {call.layer.path}")
            rows = torch.randn(x.shape[1], CANDIDATES, generator=generator, dtype=torch.float64).to(x)
            made = torch.einsum("nf...,fc->nc...", x, rows)
            found = as_columns(made, reader.layer.module, _exact(reader.given), reader.layer.reads[name])
            if found is None:
                self.apart[name, call.layer, reader.layer] = None
            else:
                total = found if total is None else total + found
        return None if total is None else total.double()


def _add(sums: dict[Any, Tensor], key: Any, more: Tensor) -> None:
    sums[key] = sums[key] + more if key in sums else more


def _exact(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x if x.dtype == torch.float64 else x.float()
