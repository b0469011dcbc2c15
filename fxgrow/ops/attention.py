"""Products of two activations inside one operator: fused attention, and pairwise distances.

Heads may be replicated, because they are independent of each other. The features that queries and keys are contracted
over are pinned, and so are the keys, which the softmax runs over. On the meta device PyTorch decomposes
`F.scaled_dot_product_attention` and `nn.MultiheadAttention` into products and a softmax, which have their own rules.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..layouts.layout import fixed
from ..layouts.unify import Inexpressible
from .env import Env, Outcome, Value, broadcast, tensors
from .registry import Exactness, Sample, rule

aten = torch.ops.aten


def _heads(x: Tensor) -> Tensor:
    q = x.unsqueeze(-1) * torch.ones(4, dtype=x.dtype)  # (N, heads, tokens, 4)
    return aten._scaled_dot_product_flash_attention_for_cpu(q, q.tanh(), q)[0]


def _masked(x: Tensor) -> Tensor:
    """A mask that differs between the heads."""
    q = x.unsqueeze(-1) * torch.ones(4, dtype=x.dtype)
    mask = x.tanh().unsqueeze(-1) * torch.ones(x.shape[2], dtype=x.dtype)  # (N, heads, tokens, tokens)
    return aten._scaled_dot_product_flash_attention_for_cpu(q, q, q, attn_mask=mask)[0]


def _dims(x: Tensor) -> Tensor:
    q = x.unsqueeze(1)  # (N, 1, tokens, 8)
    return aten._scaled_dot_product_flash_attention_for_cpu(q, q, q)[0]


@rule(
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_flash_attention.default,
    aten._scaled_dot_product_efficient_attention.default,
    aten._scaled_dot_product_cudnn_attention.default,
    aten._scaled_dot_product_fused_attention_overrideable.default,
    samples=[
        Sample(lambda: _heads, (8, 5)),
        Sample(lambda: _dims, (5, 8), grows=False, dim=2),
        Sample(lambda: _masked, (8, 5), grows=False),
    ],
    exact=Exactness(any="the batch, heads, queries", pinned="the features compared, and the keys"),
)
def attention(env: Env, query: Value, key: Value, value: Value, *args: Any, **kwargs: Any) -> Outcome:
    """softmax(query @ key.T) @ value, head by head; query (N, heads, L, E), key and value (N, heads, S, E)."""
    names = [a.name for a in env.op._schema.arguments[3:]]  # the position of `dropout_p` differs between them
    if {**dict(zip(names, args, strict=False)), **kwargs}.get("dropout_p"):
        raise Inexpressible(f"{env.op} draws a dropout mask for each head")
    for a, b in ((query, key), (key, value)):
        for d in (0, 1):
            env.unify(a.layouts[d], b.layouts[d])
    for layout in (query.layouts[3], *key.layouts[2:], *value.layouts[2:]):
        env.keep(layout, "a sum over two activations")
    for mask in tensors((*args, *kwargs.values())):
        for layout in mask.layouts:
            env.keep(layout, "an attention mask has one entry per key")
    rows = query.layouts[:3]
    logs = rows if env.outs[1] == query.shape[:3] else tuple(fixed(n) for n in env.outs[1])
    rest = [tuple([fixed(n) for n in out]) for out in env.outs[2:]]
    return [(*rows, fixed(env.outs[0][3])), logs, *rest]


@rule(
    aten._cdist_forward.default,
    samples=[
        Sample(lambda: lambda x: torch.cdist(x, torch.eye(5, dtype=x.dtype)[None]), (8, 5)),
        Sample(lambda: lambda x: torch.cdist(x, x.tanh()), (4, 5), grows=False, dim=2),
    ],
    exact=Exactness(any="the batch and the points", pinned="the features compared"),
)
def distances(env: Env, a: Value, b: Value, *args: Any) -> Outcome:
    """out[i, j] = |a[i] - b[j]|; a (*, n, k), b (*, m, k)"""
    for x in (a, b):
        env.keep(x.layouts[-1], "a sum over two activations")
    batch = broadcast(env, [Value(a.layouts[:-2]), Value(b.layouts[:-2])])
    return (*batch, a.layouts[-2], b.layouts[-2])
