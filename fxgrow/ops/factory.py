"""Tensors filled with one value. Such values commute with every mapping, so their dimensions are elastic.

If the shape is a literal of the model's code, the literal must be rewritten or the width pinned. This is found when the
shapes of the student are compared with the prediction.
"""

from __future__ import annotations

from typing import Any

import torch

from .env import Env, Outcome, Value
from .registry import Exactness, Sample, rule

aten = torch.ops.aten


@rule(
    aten.zeros,
    aten.ones,
    aten.full,
    aten.empty.memory_format,
    aten.new_zeros,
    aten.new_ones,
    aten.new_full,
    aten.new_empty,
    samples=[
        Sample(lambda: lambda x: x + x.new_ones(x.shape[1], 1, 1)),
        Sample(lambda: lambda x: torch.cat([x, x.new_zeros(x.shape)], 1)),
        Sample(lambda: lambda x: x * torch.full((x.shape[1], 1, 1), 0.5) + torch.ones(x.shape[1], 1, 1)),
        Sample(lambda: lambda x: x * x.new_full((x.shape[1], 1, 1), 0.5) + torch.zeros(x.shape[1], 1, 1)),
    ],
    sized=(0, 1),
    exact=Exactness(any="every dimension"),
    linear="fresh",
)
def constant(env: Env, *args: Any, **kwargs: Any) -> Outcome:
    """A tensor of the given shape with one value in all entries."""
    return tuple(env.elastic(n) for n in env.outs[0])


@rule(
    aten.zeros_like,
    aten.ones_like,
    aten.full_like,
    aten.empty_like,
    samples=[Sample(lambda: lambda x: x + torch.ones_like(x)), Sample(lambda: lambda x: x * torch.full_like(x, 0.5))],
    exact=Exactness(any="every dimension"),
    linear="fresh",
)
def like(env: Env, x: Value, *args: Any, **kwargs: Any) -> Outcome:
    """A tensor of x's shape with one value in all entries."""
    return x.layouts
