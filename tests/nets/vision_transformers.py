"""Transformers for images as their authors write them: sizes from the weights, the input or attributes."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.registry import IMAGE, add, net, param


class QkvReshaped(nn.Module):
    """timm: one layer for all three, reshaped to (B, N, 3, heads, head_dim)."""

    def __init__(self, dim: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.scale = heads, dim // heads, (dim // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        return q, k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        attn = (q * self.scale) @ k.transpose(-2, -1)
        return attn.softmax(dim=-1) @ v

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        return self.proj(self.attend(*self.parts(x)).transpose(1, 2).reshape(b, n, c))


class QkvReshapedByHeadDim(QkvReshaped):
    """The same with the attribute head_dim, which stays, and -1 for what grows."""

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        return q, k, v

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        y = F.scaled_dot_product_attention(*self.parts(x))
        return self.proj(y.transpose(1, 2).reshape(b, n, self.num_heads * self.head_dim))


class QkvChunked(QkvReshaped):
    """vit-pytorch: chunk, then each to (B, heads, N, head_dim)."""

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, n = x.size(0), x.size(1)
        q, k, v = (
            t.view(b, n, self.num_heads, t.size(-1) // self.num_heads).transpose(1, 2)
            for t in self.qkv(x).chunk(3, dim=-1)
        )
        return q, k, v


class QkvSeparate(QkvReshaped):
    """Hugging Face: three layers and transpose_for_scores; the softmax scaled by sqrt."""

    def __init__(self, dim: int = 8, heads: int = 2) -> None:
        super().__init__(dim, heads)
        del self.qkv
        self.all_head_size = dim
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)

    def transpose_for_scores(self, x: Tensor) -> Tensor:
        x = x.view((*x.size()[:-1], self.num_heads, self.head_dim))
        return x.permute(0, 2, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.transpose_for_scores(layer(x)) for layer in (self.query, self.key, self.value))
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(self.head_dim)
        context = torch.matmul(F.softmax(scores, dim=-1), v).permute(0, 2, 1, 3).contiguous()
        return self.proj(context.view((*context.size()[:-2], self.all_head_size)))


class QkvEinops(QkvReshaped):
    """einops' rearrange, as it ends up in view and permute."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            torch.einsum("bnhd->bhnd", t.unflatten(-1, (self.num_heads, -1))) for t in self.qkv(x).tensor_split(3, -1)
        )
        return self.proj(self.attend(q, k, v).transpose(1, 2).flatten(-2))


class Block(nn.Module):
    """Norm first, layer scales, as DeiT III and DINOv2."""

    def __init__(self, attention: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8, eps=1e-6), nn.LayerNorm(8, eps=1e-6)
        self.attn = attention()
        self.mlp = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))
        self.ls1, self.ls2 = nn.Parameter(torch.full((8,), 0.1)), nn.Parameter(torch.full((8,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1 * self.attn(self.norm1(x))
        return x + self.ls2 * self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches, a class token, a table of positions that is resized to the image, blocks, a head."""

    def __init__(self, attention: Callable[[], nn.Module], depth: int = 1) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 2, stride=2)
        self.cls_token, self.pos_embed = param(1, 1, 8), param(1, 13, 8)
        self.grid = (3, 4)
        self.blocks = nn.ModuleList(Block(attention) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 4)

    def positions(self, h: int, w: int) -> Tensor:
        if (h, w) == self.grid:
            return self.pos_embed
        table = self.pos_embed[:, 1:].reshape(1, *self.grid, -1).permute(0, 3, 1, 2)
        table = F.interpolate(table, size=(h, w), mode="bilinear", align_corners=False)
        return torch.cat([self.pos_embed[:, :1], table.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x)
        b, _, h, w = x.shape
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(b, -1, -1), x), dim=1) + self.positions(h, w)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


for _name, _kind in (
    ("reshaped", QkvReshaped),
    ("head_dim", QkvReshapedByHeadDim),
    ("chunked", QkvChunked),
    ("separate", QkvSeparate),
    ("einops", QkvEinops),
):
    add(f"vit_qkv_{_name}", lambda kind=_kind: ViT(kind), IMAGE, any_factor=False)


class TorchAttention(nn.Module):
    """nn.MultiheadAttention, with what it gives back besides."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.inner(query=x, key=x, value=x, need_weights=False)
        return out


add("vit_multihead_attention", lambda: ViT(TorchAttention), IMAGE, any_factor=False)


def partitioned(x: Tensor, size: int) -> Tensor:
    """(B, H, W, C) -> (B * windows, size * size, C)."""
    b, h, w, c = x.shape
    x = x.view(b, h // size, size, w // size, size, c)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, size * size, c)


def merged(windows: Tensor, size: int, h: int, w: int) -> Tensor:
    """(B * windows, size * size, C) -> (B, H, W, C)."""
    b = windows.shape[0] // ((h // size) * (w // size))
    x = windows.view(b, h // size, w // size, size, size, -1)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(b, h, w, -1)


class ShiftedWindows(nn.Module):
    """Swin's block: padding at run time, a roll, a mask where the image is larger than the window, a bias table."""

    def __init__(self, shift: int, size: int = 4, dim: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.shift, self.size, self.heads = shift, size, heads
        self.norm, self.qkv, self.proj = nn.LayerNorm(dim), nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.table = param((2 * size - 1) ** 2, heads)
        ys, xs = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        dy, dx = (t.flatten()[:, None] - t.flatten()[None] + size - 1 for t in (ys, xs))
        self.register_buffer("index", dy * (2 * size - 1) + dx)
        self.norm2, self.mlp = nn.LayerNorm(dim), nn.Sequential(nn.Linear(dim, 12), nn.GELU(), nn.Linear(12, dim))

    def mask(self, h: int, w: int, like: Tensor) -> Tensor:
        regions = like.new_zeros((1, h, w, 1))
        count = 0
        for rows in (slice(0, -self.size), slice(-self.size, -self.shift), slice(-self.shift, None)):
            for columns in (slice(0, -self.size), slice(-self.size, -self.shift), slice(-self.shift, None)):
                regions[:, rows, columns, :] = count
                count += 1
        windows = partitioned(regions, self.size).squeeze(-1)
        different = windows.unsqueeze(1) - windows.unsqueeze(2)
        return different.masked_fill(different != 0, -100.0).masked_fill(different == 0, 0.0)

    def attention(self, x: Tensor, mask: Tensor | None) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        attn = q * (c // self.heads) ** -0.5 @ k.transpose(-2, -1)
        bias = self.table[self.index.view(-1)].view(n, n, -1).permute(2, 0, 1)
        attn = attn + bias.unsqueeze(0)
        if mask is not None:
            attn = attn.view(b // mask.shape[0], mask.shape[0], self.heads, n, n) + mask.unsqueeze(1).unsqueeze(0)
            attn = attn.view(-1, self.heads, n, n)
        return self.proj((attn.softmax(-1) @ v).transpose(1, 2).reshape(b, n, c))

    def forward(self, x: Tensor) -> Tensor:
        _, h, w, _ = x.shape
        skip, x = x, self.norm(x)
        bottom, right = (self.size - h % self.size) % self.size, (self.size - w % self.size) % self.size
        x = F.pad(x, (0, 0, 0, right, 0, bottom))
        hp, wp = x.shape[1], x.shape[2]
        mask = None
        if self.shift > 0:
            x = torch.roll(x, shifts=(-self.shift, -self.shift), dims=(1, 2))
            mask = self.mask(hp, wp, x)
        x = merged(self.attention(partitioned(x, self.size), mask), self.size, hp, wp)
        if self.shift > 0:
            x = torch.roll(x, shifts=(self.shift, self.shift), dims=(1, 2))
        if right > 0 or bottom > 0:
            x = x[:, :h, :w, :].contiguous()
        x = skip + x
        return x + self.mlp(self.norm2(x))


class Swin(nn.Module):
    """A patch embedding, pairs of plain and shifted windows, a mean."""

    def __init__(self, pairs: int = 1) -> None:
        super().__init__()
        self.patch, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8, 4)
        self.blocks = nn.Sequential(*[ShiftedWindows(shift) for _ in range(pairs) for shift in (0, 2)])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.patch(x).permute(0, 2, 3, 1)).mean(dim=(1, 2)))


add("swin", Swin, IMAGE, any_factor=False)


@net(IMAGE, any_factor=False)
class PaddedWindows(nn.Module):
    """ViTDet and SAM: windows of an image that is padded to fit, attention inside them."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.norm, self.attn = nn.Conv2d(3, 8, 1), nn.LayerNorm(8), QkvReshaped()
        self.neck, self.head = nn.Conv2d(8, 5, 1, bias=False), nn.Conv2d(5, 4, 1)
        self.window = 4

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).permute(0, 2, 3, 1)
        _, h, w, _ = x.shape
        y = self.norm(x)
        ph, pw = (self.window - h % self.window) % self.window, (self.window - w % self.window) % self.window
        if ph > 0 or pw > 0:
            y = F.pad(y, (0, 0, 0, pw, 0, ph))
        y = merged(self.attn(partitioned(y, self.window)), self.window, h + ph, w + pw)[:, :h, :w]
        return self.head(torch.tanh(self.neck((x + y).permute(0, 3, 1, 2))))


@net(IMAGE, any_factor=False)
class Hybrid(nn.Module):
    """MobileViT: convolutions, then tokens of all patches, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.SiLU())
        self.into, self.out = nn.Conv2d(5, 8, 1, bias=False), nn.Conv2d(8, 5, 1)
        self.block = Block(QkvReshaped)
        self.fuse, self.head = nn.Conv2d(10, 6, 3, padding=1), nn.Linear(6, 4)
        self.patch = 2

    def forward(self, x: Tensor) -> Tensor:
        x = skip = self.stem(x)
        x = self.into(x)
        b, c, h, w = x.shape
        nh, nw = math.ceil(h / self.patch), math.ceil(w / self.patch)
        if nh * self.patch != h or nw * self.patch != w:
            x = F.interpolate(x, size=(nh * self.patch, nw * self.patch), mode="bilinear", align_corners=False)
        p = self.patch
        x = x.reshape(b * c * nh, p, nw, p).transpose(1, 2)  # (B*C*nh, nw, p, p)
        x = x.reshape(b, c, nh * nw, p * p).transpose(1, 3).reshape(b * p * p, nh * nw, c)
        x = self.block(x)
        x = x.contiguous().view(b, p * p, nh * nw, c).transpose(1, 3).reshape(b * c * nh, nw, p, p).transpose(1, 2)
        x = x.reshape(b, c, nh * p, nw * p)
        if x.shape[2:] != skip.shape[2:]:
            x = F.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=False)
        x = self.fuse(torch.cat((skip, self.out(x)), dim=1))
        return self.head(x.mean((2, 3)))


# Keys and values are made of a shorter sequence.
@net(IMAGE, any_factor=False)
class ReducedAttention(nn.Module):
    """PVT and SegFormer: keys and values of a smaller image, and a depthwise convolution in the MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 3, padding=1)
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.q, self.kv, self.proj = nn.Linear(8, 8), nn.Linear(8, 16), nn.Linear(8, 8)
        self.sr, self.sr_norm = nn.Conv2d(8, 8, 2, stride=2), nn.LayerNorm(8)
        self.fc1, self.dw, self.fc2 = nn.Linear(8, 10), nn.Conv2d(10, 10, 3, 1, 1, groups=10), nn.Linear(10, 8)
        self.head = nn.Conv2d(8, 4, 1)
        self.heads = 2

    def attention(self, x: Tensor, h: int, w: int) -> Tensor:
        b, n, c = x.shape
        q = self.q(x).reshape(b, n, self.heads, c // self.heads).permute(0, 2, 1, 3)
        y = x.permute(0, 2, 1).reshape(b, c, h, w)
        y = self.sr_norm(self.sr(y).reshape(b, c, -1).permute(0, 2, 1))
        kv = self.kv(y).reshape(b, -1, 2, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        k, v = kv[0], kv[1]
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x)
        b, c, h, w = x.shape
        x = x.flatten(2).transpose(1, 2)
        x = x + self.attention(self.norm1(x), h, w)
        y = self.fc1(self.norm2(x))
        y = self.dw(y.transpose(1, 2).view(b, y.shape[2], h, w)).flatten(2).transpose(1, 2)
        x = x + self.fc2(F.gelu(y))
        return self.head(x.transpose(1, 2).reshape(b, c, h, w))
