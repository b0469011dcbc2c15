"""Attention and tokens: heads grow whole, what queries and keys are compared over stays."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.registry import IMAGE, TOKENS, add, net, param

Heads = Callable[[Tensor, int], tuple[Tensor, Tensor, Tensor]]  # (N, T, 3*heads*D), heads -> each (N, heads, T, D)


def _literals(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    n, t, _ = qkv.shape
    q, k, v = qkv.reshape(n, t, 3, heads, 4).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


def _computed(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    n, t, c = qkv.shape
    c = c // 3
    q, k, v = qkv.reshape(n, t, 3, heads, c // heads).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


def _rest(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    n, t, _ = qkv.shape
    q, k, v = qkv.reshape(n, t, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


def _chunks(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    n, t, _ = qkv.shape
    q, k, v = qkv.chunk(3, -1)
    return (
        q.view(n, t, heads, 4).transpose(1, 2),
        k.view(n, t, heads, 4).transpose(1, 2),
        v.view(n, t, heads, 4).transpose(1, 2),
    )


def _softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return ((q * 4**-0.5) @ k.transpose(-2, -1)).softmax(-1) @ v


def _einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("bhqk,bhkd->bhqd", torch.einsum("bhqd,bhkd->bhqk", q, k).softmax(-1), v)


def _cosine(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)).softmax(-1) @ v


def _over_channels(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return ((q.transpose(-2, -1) @ k).softmax(-1) @ v.transpose(-2, -1)).transpose(-2, -1)


def _linear(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return q.softmax(-1) @ (k.softmax(-2).transpose(-2, -1) @ v)


def _causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def _masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=torch.ones(5, 5, dtype=torch.bool).tril())


class Attention(nn.Module):
    """x + proj(attend(qkv(norm(x)))), the heads in one of several spellings."""

    def __init__(self, split: Heads, attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.norm = nn.Linear(7, 8), nn.LayerNorm(8)
        self.qkv, self.proj, self.head = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 4)
        self.split, self.attend = split, attend

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.attend(*self.split(self.qkv(self.norm(x)), 2))
        return self.head(x + self.proj(y.transpose(1, 2).flatten(2)))


for _split in (_literals, _computed, _rest, _chunks):
    add(
        f"heads{_split.__name__}",
        lambda split=_split: Attention(split, F.scaled_dot_product_attention),
        TOKENS,
        any_factor=False,
    )
for _attend in (_softmax, _einsum, _cosine, _over_channels, _linear, _causal, _masked):
    add(f"attention{_attend.__name__}", lambda attend=_attend: Attention(_literals, attend), TOKENS, any_factor=False)


@net(TOKENS, any_factor=False)
class VisionTransformer(nn.Module):
    """A class token, a table of positions, nn.MultiheadAttention and an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(7, 8), nn.Linear(8, 4)
        self.token, self.positions = param(1, 1, 8), param(1, 6, 8)
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(8, 10), nn.GELU(), nn.Linear(10, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), self.stem(x)], dim=1) + self.positions
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.mlp(self.norm2(x))
        return self.head(x[:, 0])


@net(IMAGE, any_factor=False)
class WindowAttention(nn.Module):
    """Swin: shifted windows, a table of relative positions looked up by an index buffer, one column per head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head, self.norm = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), nn.LayerNorm(8)
        self.qkv, self.proj, self.table = nn.Linear(8, 24), nn.Linear(8, 8), param(7, 2)
        self.register_buffer("places", torch.arange(4)[:, None] - torch.arange(4) + 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        n, h, w, c = x.shape
        y = self.norm(x).roll((-1, -1), (1, 2)).view(n, h // 2, 2, w // 2, 2, c)
        y = y.permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)  # (windows, 2*2, C)
        q, k, v = self.qkv(y).reshape(-1, 4, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.places.view(-1)].view(4, 4, 2).permute(2, 0, 1)
        y = ((q @ k.transpose(-2, -1) + bias).softmax(-1) @ v).transpose(1, 2).reshape(-1, 4, c)
        y = self.proj(y).view(n, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        return self.head((x + y.roll((1, 1), (1, 2))).permute(0, 3, 1, 2))


@net(IMAGE, any_factor=False)
class PatchMerging(nn.Module):
    """Swin: four neighbours side by side, a norm and a linear layer over them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 1), nn.LayerNorm(24)
        self.reduce, self.head = nn.Linear(24, 10, bias=False), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        x = torch.cat([x[:, ::2, ::2], x[:, 1::2, ::2], x[:, ::2, 1::2], x[:, 1::2, 1::2]], -1)
        return self.head(torch.tanh(self.reduce(self.norm(x))))


def _between(middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(7, 8), middle, nn.Linear(8, 4))


# The widths of attention stay: the layer holds the sizes of another module's weights.
for _first in (True, False):
    add(
        f"transformer_encoder_layer{'_norm_first' * _first}",
        lambda first=_first: _between(
            nn.TransformerEncoderLayer(8, 2, 10, dropout=0.1, batch_first=True, norm_first=first)
        ),
        TOKENS,
        grows=("1.linear1.weight", "1.linear2.weight"),
    )


@net(TOKENS, grows=("decoder.linear1.weight", "decoder.linear2.weight"))
class Queries(nn.Module):
    """DETR: learned queries read the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head, self.queries = nn.Linear(7, 8), nn.Linear(8, 4), param(1, 3, 8)
        self.decoder = nn.TransformerDecoderLayer(8, 2, 10, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.decoder(self.queries.expand(x.shape[0], -1, -1), self.stem(x)))


@net(TOKENS)
class ShapesJoined(nn.Module):
    """Heads by `x.size()[:-1] + (heads, dim)`; the first stage has one head, whose size is stated."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(7, 6)
        self.stages = nn.ModuleList(_JoinedHeads(6, heads) for heads in (1, 2))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for stage in self.stages:
            x = x + stage(x)
        return self.head(x)


class _JoinedHeads(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query, self.key, self.value, self.proj = (nn.Linear(width, width) for _ in range(4))

    def split(self, x: Tensor) -> Tensor:
        shape = x.size()[:-1] + (self.heads, self.size)  # noqa: RUF005 - joined tuples are what this is about
        return x.view(shape).permute(0, 2, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        weights = torch.softmax(q @ k.transpose(-1, -2) / self.size**0.5, -1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, t, c))


@net(TOKENS, TOKENS, TOKENS, grows=(*(f"scales.{i}.weight" for i in range(3)), "head.weight"))
class TokensWeighed(nn.Module):
    """CoaT's head: a convolution of kernel size 1 weighs the class tokens of three scales, channel by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.ModuleList(nn.Linear(7, 6) for _ in range(3))
        self.aggregate, self.head = nn.Conv1d(3, 1, 1), nn.Linear(6, 4)

    def forward(self, *xs: Tensor) -> Tensor:
        first = [scale(x)[:, 0] for scale, x in zip(self.scales, xs, strict=True)]
        return self.head(self.aggregate(torch.stack(first, 1)).squeeze(1))
