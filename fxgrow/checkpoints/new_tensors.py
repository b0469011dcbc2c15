"""The tensors of a student that come from no tensor of its teacher: those of new layers, drawn ones, and constants."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..base.rng import named_generator
from ..depth.kept_shape import drawn
from ..depth.new_layers import build_new_layer
from ..plans.changes import Insert
from .outline import Drawn, Filled, Grown, Made

CPU = torch.device("cpu")


class NewTensors:
    """Makes them on the CPU. The tensors of a layer come one after the other, and only one layer is held."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._built: Insert | None = None
        self._layer: Mapping[str, Tensor] = {}

    def __call__(self, one: Made) -> Tensor:
        """The tensor, of the shape and dtype that are said."""
        how = one.how
        assert not isinstance(how, Grown)
        if isinstance(how, Filled):
            return torch.full(one.info.shape, how.value, dtype=one.info.dtype)
        if isinstance(how, Drawn):
            return drawn(one.info.shape, self._seed, how.name, CPU, one.info.dtype)
        if how.new is not self._built:
            draws = named_generator(self._seed, how.new.path)
            self._layer, self._built = build_new_layer(how.new, draws, CPU, how.dtype).state_dict(), how.new
        return self._layer[how.key]
