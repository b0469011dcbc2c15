"""Tensors made from nothing. Constant values commute with every mapping, so their dimensions are elastic.

Whether a literal made the shape (then it has to be rewritten, or the width pinned) shows when the
student's shapes are checked.
"""

from __future__ import annotations

from typing import Any

import torch

from .registry import Env, Exactness, Outcome, Sample, Value, rule

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
    ],
    sized=(0, 1),
    exact=Exactness(any="every dimension"),
    linear="fresh",
)
def constant(env: Env, *args: Any, **kwargs: Any) -> Outcome:
    """All entries alike."""
    return tuple(env.elastic(n) for n in env.outs[0])


@rule(
    aten.zeros_like,
    aten.ones_like,
    aten.full_like,
    aten.empty_like,
    samples=[Sample(lambda: lambda x: x + torch.ones_like(x))],
    exact=Exactness(any="every dimension"),
    linear="fresh",
)
def like(env: Env, x: Value, *args: Any, **kwargs: Any) -> Outcome:
    """All entries alike, in x's shape."""
    return x.layouts
