"""Dense, branched, gated and pyramidal networks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.registry import IMAGE, TOKENS, add, net


@net(IMAGE)
class DenseNet(nn.Module):
    """Each layer reads all before it, in two blocks with a transition."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(6 + 4 * i) for i in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(6 + 4 * i, 4, 3, padding=1, bias=False) for i in range(3))
        self.transition = nn.Conv2d(18, 7, 1)
        self.last, self.fc = nn.Conv2d(7, 4, 3, padding=1), nn.Linear(11, 4)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            features.append(conv(F.relu(norm(torch.cat(features, 1)))))
        x = F.avg_pool2d(self.transition(torch.cat(features, 1)), 2)
        x = torch.cat([x, F.relu(self.last(x))], 1)
        return self.fc(x.mean((2, 3)))


@net(IMAGE)
class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.one = nn.Conv2d(6, 3, 1)
        self.three = nn.Sequential(nn.Conv2d(6, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1))
        self.wide = nn.Sequential(nn.Conv2d(6, 4, (1, 3), padding=(0, 1)), nn.Conv2d(4, 4, (3, 1), padding=(1, 0)))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(6, 3, 1))
        self.bn, self.head = nn.BatchNorm2d(15), nn.Conv2d(15, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = torch.cat([self.one(x), self.three(x), self.wide(x), self.pool(x)], dim=1)
        return self.head(F.relu(self.bn(x)))


class SqueezeExcite(nn.Module):
    """Channel gate through linear layers."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        n, c, _, _ = x.size()
        y = F.adaptive_avg_pool2d(x, 1).view(n, c)
        y = torch.sigmoid(self.fc2(F.relu(self.fc1(y)))).view(n, c, 1, 1)
        return x * y.expand_as(x)


add(
    "squeeze_and_excitation",
    lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), SqueezeExcite(6, 2), nn.Conv2d(6, 4, 1)),
    IMAGE,
)
add(
    "squeeze_and_excitation_with_one_inner_channel",
    lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), SqueezeExcite(4, 1), nn.Conv2d(4, 4, 1)),
    IMAGE,
)


# The gate's convolution reads one mean and one maximum over channels and writes one map: nothing there grows.
@net(IMAGE, grows=("stem.weight", "head.weight", "mlp.0.weight", "mlp.2.weight"), any_factor=False)
class ChannelAndSpaceAttention(nn.Module):
    """CBAM: a gate (N, C, 1, 1), then a gate (N, 1, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1)
        self.mlp = nn.Sequential(nn.Conv2d(6, 3, 1), nn.ReLU(), nn.Conv2d(3, 6, 1))
        self.space = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x * torch.sigmoid(self.mlp(F.adaptive_avg_pool2d(x, 1)) + self.mlp(F.adaptive_max_pool2d(x, 1)))
        pooled = torch.cat([torch.mean(x, 1, keepdim=True), torch.max(x, 1, keepdim=True)[0]], dim=1)
        return self.head(x * torch.sigmoid(self.space(pooled)))


# The map of the gate has one channel, which meets all others by broadcasting: it is not tied to them.
@net(IMAGE, grows=("stem.weight", "inner.weight", "gate.weight", "head.weight"))
class BroadcastGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1)
        self.inner, self.gate = nn.Conv2d(6, 5, 1), nn.Conv2d(5, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x * torch.sigmoid(self.gate(torch.relu(self.inner(x)))))


@net(IMAGE, grows=("stem.weight", "head.weight"))
class BroadcastMaximum(nn.Module):
    """The maximum over channels, as (N, 1, H, W), subtracted from each: exact under any mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(torch.exp(x - x.amax(dim=1, keepdim=True)) - x.min(dim=1, keepdim=True).values)


@net(IMAGE)
class SelectiveKernel(nn.Module):
    """SKNet: a softmax over two branches, stacked in a new dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1)
        self.a, self.b = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=2, dilation=2)
        self.reduce, self.select = nn.Conv2d(6, 4, 1), nn.Conv2d(4, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.stack([self.a(x), self.b(x)], dim=1)  # (N, 2, C, H, W)
        gate = self.select(F.relu(self.reduce(x.sum(1).mean((2, 3), keepdim=True))))
        gate = gate.view(gate.size(0), 2, gate.size(1) // 2, 1, 1).softmax(dim=1)
        return self.head((x * gate).sum(dim=1))


@net(IMAGE)
class GhostModule(nn.Module):
    """Half of the features come from cheap depthwise copies of the other half."""

    def __init__(self) -> None:
        super().__init__()
        self.primary, self.cheap = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 5, 3, padding=1, groups=5)
        self.head = nn.Conv2d(9, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x1 = F.relu(self.primary(x))
        x2 = F.relu(self.cheap(x1))
        return self.head(torch.cat([x1, x2], dim=1)[:, :9, :, :])


@net(IMAGE)
class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.d1, self.d2 = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 6, 3, padding=1)
        self.mid = nn.Conv2d(6, 8, 3, padding=1)
        self.up1, self.u1 = nn.ConvTranspose2d(8, 6, 2, stride=2), nn.Conv2d(12, 6, 3, padding=1)
        self.u2, self.head = nn.Conv2d(11, 5, 3, padding=1), nn.Conv2d(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        s1 = F.relu(self.d1(x))
        s2 = F.relu(self.d2(F.max_pool2d(s1, 2)))
        y = F.relu(self.mid(F.max_pool2d(s2, 2, ceil_mode=True)))
        y = self.up1(y)
        dh, dw = s2.size(2) - y.size(2), s2.size(3) - y.size(3)
        y = F.pad(y, [dw // 2, dw - dw // 2, dh // 2, dh - dh // 2])
        y = F.relu(self.u1(torch.cat([s2, y], dim=1)))
        y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=True)
        return self.head(F.relu(self.u2(torch.cat([y, s1], dim=1))))


@net(IMAGE)
class HighResolution(nn.Module):
    """HRNet: two resolutions exchange their features."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(3, 7, 3, stride=2, padding=1)
        self.down, self.up = nn.Conv2d(5, 7, 3, stride=2, padding=1), nn.Conv2d(7, 5, 1)
        self.head = nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.tanh(self.a(x)), torch.tanh(self.b(x))
        a, b = a + F.interpolate(self.up(b), scale_factor=2), b + self.down(a)
        return self.head(torch.cat([a, F.interpolate(b, size=a.shape[2:], mode="nearest")], 1))


@net(IMAGE, any_factor=False)
class Mixer(nn.Module):
    """MLP-Mixer: a linear layer over tokens, one over features."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 2, stride=2)
        self.norm1, self.norm2 = nn.LayerNorm(6), nn.LayerNorm(6)
        self.tokens = nn.Sequential(nn.Linear(12, 5), nn.GELU(), nn.Linear(5, 12))
        self.features = nn.Sequential(nn.Linear(6, 10), nn.GELU(), nn.Linear(10, 6))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)  # (N, tokens, C)
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.features(self.norm2(x))
        return self.head(x.mean(dim=1))


@net(TOKENS, grows=("mlp.0.weight", "mlp.2.weight"), any_factor=True)
class TransformerBlock(nn.Module):
    """Attention's widths may stay; those of the feed-forward part grow."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(7, 8)
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(8, 10), nn.GELU(), nn.Linear(10, 8))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.head((x + self.mlp(self.norm2(x))).mean(1))


# Queries and keys meet in a product over the head's dimension, which stays; the rest is free to grow.
@net(TOKENS, grows=("mlp.0.weight", "mlp.2.weight"))
class HandAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.qkv, self.proj = nn.Linear(7, 8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.mlp = nn.Sequential(nn.Linear(8, 10), nn.GELU(), nn.Linear(10, 8))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, 2, c // 2).permute(2, 0, 3, 1, 4)  # each (N, heads, T, D)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, c)
        x = x + self.proj(y)
        return self.head(x + self.mlp(x))
