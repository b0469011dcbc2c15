"""A tiny decoder as users write them: numbered layers, a config, a cache of keys and values, and optional arguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class Config:
    """What a decoder is built from."""

    vocabulary: int = 32
    width: int = 16
    heads: int = 4
    num_hidden_layers: int = 3
    layer_types: list[str] = field(default_factory=lambda: ["local", "global", "local"])
    dropout: float = 0.0


class Cache:
    """Keys and values by layer."""

    def __init__(self, config: Config) -> None:
        self.layers: list[tuple[Tensor, Tensor] | None] = [None] * config.num_hidden_layers

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """The keys and values of a layer so far, shape (batch, heads, tokens, size)."""
        before = self.layers[layer]
        if before is not None:
            keys, values = torch.cat([before[0], keys], 2), torch.cat([before[1], values], 2)
        self.layers[layer] = keys, values
        return keys, values

    def __len__(self) -> int:
        first = self.layers[0]
        return 0 if first is None else first[0].shape[2]


class RmsNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class Attention(nn.Module):
    def __init__(self, config: Config, layer_idx: int) -> None:
        super().__init__()
        self.config, self.layer_idx, self.heads = config, layer_idx, config.heads
        self.qkv, self.out = nn.Linear(config.width, 3 * config.width), nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, mask: Tensor, cache: Cache | None) -> Tensor:
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, 2))
        if cache is not None:
            k, v = cache.update(k, v, self.layer_idx)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(y.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.gate, self.up = (nn.Linear(config.width, 2 * config.width, bias=False) for _ in range(2))
        self.down = nn.Linear(2 * config.width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Layer(nn.Module):
    def __init__(self, config: Config, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx, self.kind = layer_idx, config.layer_types[layer_idx]
        self.norm1, self.norm2 = RmsNorm(config.width), RmsNorm(config.width)
        self.self_attn, self.mlp = Attention(config, layer_idx), Mlp(config)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor, cache: Cache | None = None) -> tuple[Tensor]:
        x = x + self.drop(self.self_attn(self.norm1(x), mask, cache=cache))
        return (x + self.drop(self.mlp(self.norm2(x))),)


class Decoder(nn.Module):
    """Returns logits, and the cache and all activations where they are asked for."""

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.embed = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList([Layer(config, i) for i in range(config.num_hidden_layers)])
        self.norm, self.head = RmsNorm(config.width), nn.Linear(config.width, config.vocabulary, bias=False)

    def forward(
        self, ids: Tensor, cache: Cache | None = None, use_cache: bool = True, all_hidden: bool = False
    ) -> dict[str, Any]:
        if use_cache and cache is None:
            cache = Cache(self.config)
        past = len(cache) if cache is not None else 0
        tokens = ids.shape[1]
        masks = {"global": torch.ones(tokens, past + tokens, dtype=torch.bool).tril(past)}
        masks["local"] = masks["global"] & ~masks["global"].tril(past - 6)
        x, hidden = self.embed(ids), []
        for layer, kind in zip(self.layers[: self.config.num_hidden_layers], self.config.layer_types, strict=True):
            hidden.append(x)
            x = layer(x, masks[kind], cache=cache)[0]
        x = self.norm(x)
        result: dict[str, Any] = {"logits": self.head(x)}
        if use_cache:
            result["cache"] = cache
        if all_hidden:
            result["hidden"] = (*hidden, x)
        return result

    @torch.no_grad()
    def generate(self, ids: Tensor, number: int, use_cache: bool = True) -> Tensor:
        """The tokens with that many more, each the likeliest."""
        cache = Cache(self.config) if use_cache else None
        fed = ids
        for _ in range(number):
            logits = self(fed, cache=cache, use_cache=use_cache)["logits"]
            more = logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, more], 1)
            fed = more if use_cache else ids
        return ids
