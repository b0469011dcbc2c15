"""Operators along one dimension whose result depends on its size or order: softmax, sorting, running sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from ..layouts.layout import fixed
from .env import Env, Outcome, Value, left, reduced
from .registry import Exactness, Sample, rule

aten = torch.ops.aten


def _pinned_along(name: str, why: str, dim: int, samples: Sequence[Sample], *ops: Any) -> None:
    """Register one rule for operators along one dimension whose result depends on its size or order.

    Args:
        name: The name of the rule.
        why: The reason for which the dimension is pinned.
        dim: The position of the dimension among the arguments after the tensor.
        samples: The samples of the rule.
        ops: The operators.
    """

    def pinned(env: Env, x: Value, *args: Any, **kwargs: Any) -> Outcome:
        over = args[dim] if len(args) > dim else kwargs.get("dim", -1)
        gone = reduced(x, over)
        for d in gone:
            env.keep(x.layouts[d], why)
        if name == "softmax" and len(x.layouts) == 4 and gone == (3,):  # (N, heads, queries, keys)
            env.declare(num_heads=x.layouts[1])
        keep = len(env.outs[0]) == len(x.layouts)
        return [
            tuple(fixed(out[d]) if d in gone else la for d, la in enumerate(x.layouts))
            if keep
            else left(x, gone, keep=False)
            for out in env.outs
        ]

    pinned.__name__, pinned.__doc__ = name, f"Along one dimension, which is pinned: {why}."
    exact = Exactness(any="the other dimensions", pinned="the dimension that it runs along")
    rule(*ops, samples=samples, exact=exact)(pinned)


_pinned_along(
    "softmax",
    "softmax over channels counts them",
    0,
    [
        Sample(lambda: lambda x: F.softmax(x, 1), grows=False),
        Sample(lambda: lambda x: F.softmax(x, 2)),
        Sample(lambda: lambda x: F.log_softmax(x, 1), grows=False),
        Sample(lambda: lambda x: F.scaled_dot_product_attention(x, x, x)),
    ],
    aten._softmax,
    aten._safe_softmax,
    aten._log_softmax,
)
_pinned_along(
    "running",
    "a running operation over channels depends on their order",
    0,
    [
        Sample(lambda: lambda x: x.cumsum(1), grows=False),
        Sample(lambda: lambda x: x.clone().cumsum_(2)),
        Sample(lambda: lambda x: x.cummax(2)[0]),
        Sample(lambda: lambda x: x.cummin(1)[0], grows=False),
        Sample(lambda: lambda x: x.cumprod(2).clone().cumprod_(3).logcumsumexp(2)),
    ],
    aten.cumsum,
    aten.cumsum_,
    aten.cumprod,
    aten.cumprod_,
    aten.cummax,
    aten.cummin,
    aten.logcumsumexp.default,
)
_pinned_along(
    "sort",
    "sorting over channels depends on their number",
    0,
    [
        Sample(lambda: lambda x: x.sort(1)[0], grows=False),
        Sample(lambda: lambda x: x.sort(dim=2)[0]),
        Sample(lambda: lambda x: x.sort(stable=True, dim=2)[0]),
    ],
    aten.sort.default,
    aten.sort.stable,
)
_pinned_along(
    "middle",
    "an order statistic over channels depends on their number",
    0,
    [
        Sample(lambda: lambda x: x.median(1)[0], grows=False),
        Sample(lambda: lambda x: x.flatten(2).median(2)[0]),
        Sample(lambda: lambda x: x.flatten(2).nanmedian(2)[0]),
        Sample(lambda: lambda x: x.flatten(2).mode(2)[0]),
    ],
    aten.median.dim,
    aten.nanmedian.dim,
    aten.mode.default,
)
_pinned_along(
    "best",
    "the best of several channels are picked by number",
    1,
    [
        Sample(lambda: lambda x: x.topk(2, 1)[0], grows=False),
        Sample(lambda: lambda x: x.topk(2, dim=2)[0]),
        Sample(lambda: lambda x: x.kthvalue(2, 2)[0]),
    ],
    aten.topk.default,
    aten.kthvalue.default,
)
