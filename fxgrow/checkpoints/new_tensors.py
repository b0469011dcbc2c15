"""The tensors of a student that come from no tensor of its teacher: those of new layers, drawn ones, and constants."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ..depth.initial import Constant, Start, Uniform, row_blocks
from ..depth.new_layers import small_modules, starts
from ..plans.changes import Insert
from .outline import Drawn, Filled, Grown, Made

Rows = tuple[int, Tensor]  # the number of the first row, and the rows


class NewTensors:
    """Makes them on the CPU, block by block, so that any part of one needs no more memory than that part."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._built: Insert | None = None
        self._starts: Mapping[str, Start] = {}
        self._small: Mapping[str, Tensor] = {}

    def blocks(self, one: Made) -> Iterator[Rows]:
        """All rows of the tensor, a block at a time; of a number, the number itself."""
        for first, last in row_blocks(one.info.shape):
            yield first, self.rows(one, first, last)

    def rows(self, one: Made, first: int, last: int) -> Tensor:
        """Rows of the tensor, from one to before another, of the dtype that is said; of a number, the number itself."""
        start = self._start_of(one)
        if isinstance(start, Tensor):
            return start[first:last] if start.ndim else start
        shape = one.info.shape
        rows = torch.empty((last - first, *shape[1:]) if shape else (), dtype=one.info.dtype, device="cpu")
        with torch.no_grad():
            start.write(rows, shape, first, self._seed)
        return rows

    def _start_of(self, one: Made) -> Start | Tensor:
        how = one.how
        assert not isinstance(how, Grown)
        if isinstance(how, Filled):
            return Constant(how.value)
        if isinstance(how, Drawn):
            return Uniform(how.name, math.prod(one.info.shape[1:]))
        if how.new is not self._built:
            self._starts, self._built = starts(how.new), how.new
            small = nn.ModuleDict(small_modules(how.new, torch.device("cpu"), how.dtype))
            self._small = {key: tensor.detach() for key, tensor in small.state_dict().items()}
        found: Start | Tensor = self._starts[how.key] if how.key in self._starts else self._small[how.key]
        return found
