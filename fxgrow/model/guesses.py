"""Example inputs that a model takes whose first layer is of a known kind."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import TraceError
from .example_inputs import ModelInputs
from .layer_kinds import CONVOLUTION, EMBEDDING, LINEAR, is_a, spatial_rank
from .stated import states_its_sizes
from .walk import modules

SIZES = {
    1: ((128,), (1024,), (16000,), (64,), (32,), (256,), (4096,)),
    2: ((224, 224), (32, 32), (28, 28), (64, 64), (8, 8), (299, 299), (96, 96), (128, 128), (256, 256), (384, 384),
        (16, 16), (48, 48), (112, 112), (160, 160), (240, 240), (320, 320), (512, 512)),
    3: ((16, 112, 112), (32, 32, 32), (16, 16, 16), (64, 64, 64), (8, 32, 32), (8, 8, 8), (96, 96, 96)),
}  # fmt: skip


def guesses(model: nn.Module) -> Iterator[ModelInputs]:
    """Example inputs to try, by the kind of the first layer, most common sizes first; batch size 2.

    Raises:
        TraceError: The model takes more than one input, or has no layer of a known kind.
    """
    needed = [
        p.name
        for p in inspect.signature(model.forward).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if len(needed) > 1:
        raise TraceError(f"{type(model).__name__}.forward takes {', '.join(needed)}: give example_inputs for them")
    for layer in modules(model):
        shapes = _shapes(layer)
        if shapes:
            weight: Tensor = layer.weight  # type: ignore[assignment]
            for shape, dtype in shapes:
                example = torch.empty(shape, dtype=dtype or weight.dtype, device="meta")
                yield ModelInputs((example,), {}, guessed=True)
            return
    raise TraceError(f"{type(model).__name__} has no layer to infer its input from: give example_inputs")


def _shapes(layer: Any) -> list[tuple[tuple[int, ...], torch.dtype | None]]:
    """(input shape, dtype) to try for a first layer; dtype None: that of the weight. Empty for unknown layers."""
    if is_a(layer, CONVOLUTION) and states_its_sizes(layer):
        return [((2, layer.in_channels, *size), None) for size in SIZES[spatial_rank(layer)]]
    if is_a(layer, LINEAR) and states_its_sizes(layer):
        return [((2, layer.in_features), None), ((2, 16, layer.in_features), None)]
    if is_a(layer, EMBEDDING):
        return [((2, 16), torch.int64)]
    return []
